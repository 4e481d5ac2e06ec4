//! Values as bytes in the form of bincode 1 with its defaults, which Dynamo stores: fixed widths, little end first, lengths of
//! 64 bits, variants of 32, and nothing that says what is what. Written here, as bincode itself is no longer kept up.

use std::fmt;

use serde::de::{self, DeserializeOwned, IntoDeserializer};
use serde::ser;

/// Why a value and its bytes do not fit.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Error {
    /// The bytes end within the value.
    Short {
        /// Where, in bytes from the first.
        at: usize,
        /// Bytes that are missing there.
        lack: usize,
    },
    /// There are bytes behind the value.
    Long {
        /// Where the value ends.
        at: usize,
    },
    /// What is there is no value of the type.
    Malformed {
        /// Where, in bytes from the first.
        at: usize,
        /// What had to be there.
        wanted: &'static str,
    },
    /// The form cannot hold it: a sequence whose length is not known before, or a type that wants to be told what is there.
    Unsupported(&'static str),
    /// What the type itself says.
    Value(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short { at, lack } => write!(f, "the value is cut off at byte {at}: {lack} more are needed"),
            Self::Long { at } => write!(f, "the value ends at byte {at}, before the bytes do"),
            Self::Malformed { at, wanted } => write!(f, "no {wanted} at byte {at}"),
            Self::Unsupported(what) => write!(f, "bincode cannot hold {what}"),
            Self::Value(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Error {}

impl ser::Error for Error {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self::Value(text.to_string())
    }
}

impl de::Error for Error {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self::Value(text.to_string())
    }
}

/// The bytes of a value.
///
/// # Errors
/// [`Error::Unsupported`], or what the value says.
pub fn to_vec<T: ser::Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, Error> {
    let mut writer = Writer { bytes: Vec::new() };
    value.serialize(&mut writer)?;
    Ok(writer.bytes)
}

/// The value of these bytes, all of them.
///
/// # Errors
/// [`Error`], which says where.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    let mut reader = Reader { bytes, at: 0 };
    let value = T::deserialize(&mut reader)?;
    if reader.at < bytes.len() { Err(Error::Long { at: reader.at }) } else { Ok(value) }
}

struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    fn length(&mut self, length: Option<usize>) -> Result<&mut Self, Error> {
        let length = length.ok_or(Error::Unsupported("a sequence of unknown length"))?;
        self.bytes.extend((length as u64).to_le_bytes());
        Ok(self)
    }

    fn variant(&mut self, index: u32) -> &mut Self {
        self.bytes.extend(index.to_le_bytes());
        self
    }
}

macro_rules! write_numbers {
    ($($method:ident: $number:ty),*) => {
        $(fn $method(self, value: $number) -> Result<(), Error> {
            self.bytes.extend(value.to_le_bytes());
            Ok(())
        })*
    };
}

impl ser::Serializer for &mut Writer {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    write_numbers!(
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_i128: i128,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_u128: u128,
        serialize_f32: f32, serialize_f64: f64
    );

    fn serialize_bool(self, value: bool) -> Result<(), Error> {
        self.serialize_u8(value.into())
    }

    fn serialize_char(self, value: char) -> Result<(), Error> {
        self.bytes.extend(value.encode_utf8(&mut [0; 4]).as_bytes());
        Ok(())
    }

    fn serialize_str(self, value: &str) -> Result<(), Error> {
        self.serialize_bytes(value.as_bytes())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), Error> {
        self.length(Some(value.len()))?.bytes.extend(value);
        Ok(())
    }

    fn serialize_none(self) -> Result<(), Error> {
        self.serialize_u8(0)
    }

    fn serialize_some<T: ser::Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        self.bytes.push(1);
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Error> {
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Error> {
        Ok(())
    }

    fn serialize_unit_variant(self, _: &'static str, index: u32, _: &'static str) -> Result<(), Error> {
        self.variant(index);
        Ok(())
    }

    fn serialize_newtype_struct<T: ser::Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: ser::Serialize + ?Sized>(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(self.variant(index))
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Self, Error> {
        self.length(length)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, Error> {
        Ok(self)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, Error> {
        Ok(self)
    }

    fn serialize_tuple_variant(self, _: &'static str, index: u32, _: &'static str, _: usize) -> Result<Self, Error> {
        Ok(self.variant(index))
    }

    fn serialize_map(self, length: Option<usize>) -> Result<Self, Error> {
        self.length(length)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, Error> {
        Ok(self)
    }

    fn serialize_struct_variant(self, _: &'static str, index: u32, _: &'static str, _: usize) -> Result<Self, Error> {
        Ok(self.variant(index))
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

macro_rules! write_parts {
    ($($part:ident: $method:ident($($name:ty)?)),*) => {
        $(impl ser::$part for &mut Writer {
            type Ok = ();
            type Error = Error;

            fn $method<T: ser::Serialize + ?Sized>(&mut self, $(_: $name,)? value: &T) -> Result<(), Error> {
                value.serialize(&mut **self)
            }

            fn end(self) -> Result<(), Error> {
                Ok(())
            }
        })*
    };
}

write_parts!(
    SerializeSeq: serialize_element(),
    SerializeTuple: serialize_element(),
    SerializeTupleStruct: serialize_field(),
    SerializeTupleVariant: serialize_field(),
    SerializeStruct: serialize_field(&'static str),
    SerializeStructVariant: serialize_field(&'static str)
);

impl ser::SerializeMap for &mut Writer {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: ser::Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        key.serialize(&mut **self)
    }

    fn serialize_value<T: ser::Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        value.serialize(&mut **self)
    }

    fn end(self) -> Result<(), Error> {
        Ok(())
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = rest.get(..length).ok_or(Error::Short { at: self.at, lack: length - rest.len().min(length) })?;
        self.at += length;
        Ok(taken)
    }

    fn array<const LEN: usize>(&mut self) -> Result<[u8; LEN], Error> {
        let at = self.at;
        self.take(LEN)?.try_into().map_err(|_| Error::Short { at, lack: LEN })
    }

    fn length(&mut self) -> Result<usize, Error> {
        let at = self.at;
        let length = u64::from_le_bytes(self.array()?);
        usize::try_from(length).map_err(|_| Error::Malformed { at, wanted: "length that memory has room for" })
    }

    fn flag(&mut self, wanted: &'static str) -> Result<bool, Error> {
        let at = self.at;
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(Error::Malformed { at, wanted }),
        }
    }

    fn text(&mut self) -> Result<&'a str, Error> {
        let length = self.length()?;
        let at = self.at;
        std::str::from_utf8(self.take(length)?).map_err(|_| Error::Malformed { at, wanted: "text in UTF-8" })
    }

    fn letter(&mut self) -> Result<char, Error> {
        let at = self.at;
        let first = self.bytes.get(at).copied().unwrap_or_default();
        let width = match first {
            0..=0x7F => 1,
            0xC0..=0xDF => 2,
            0xE0..=0xEF => 3,
            _ => 4,
        };
        let letter = std::str::from_utf8(self.take(width)?).ok().and_then(|text| text.chars().next());
        letter.ok_or(Error::Malformed { at, wanted: "character in UTF-8" })
    }
}

macro_rules! read_numbers {
    ($($method:ident: $number:ty => $visit:ident),*) => {
        $(fn $method<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            visitor.$visit(<$number>::from_le_bytes(self.array()?))
        })*
    };
}

impl<'de> de::Deserializer<'de> for &mut Reader<'de> {
    type Error = Error;

    read_numbers!(
        deserialize_i8: i8 => visit_i8, deserialize_i16: i16 => visit_i16, deserialize_i32: i32 => visit_i32,
        deserialize_i64: i64 => visit_i64, deserialize_i128: i128 => visit_i128,
        deserialize_u8: u8 => visit_u8, deserialize_u16: u16 => visit_u16, deserialize_u32: u32 => visit_u32,
        deserialize_u64: u64 => visit_u64, deserialize_u128: u128 => visit_u128,
        deserialize_f32: f32 => visit_f32, deserialize_f64: f64 => visit_f64
    );

    fn deserialize_any<V: de::Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::Unsupported("a value of any type"))
    }

    fn deserialize_ignored_any<V: de::Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::Unsupported("a value that is passed over"))
    }

    fn deserialize_identifier<V: de::Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::Unsupported("the name of a field"))
    }

    fn deserialize_bool<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_bool(self.flag("0 or 1")?)
    }

    fn deserialize_char<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_char(self.letter()?)
    }

    fn deserialize_str<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_borrowed_str(self.text()?)
    }

    fn deserialize_string<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let length = self.length()?;
        visitor.visit_borrowed_bytes(self.take(length)?)
    }

    fn deserialize_byte_buf<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.flag("0 or 1 of an option")? { visitor.visit_some(self) } else { visitor.visit_none() }
    }

    fn deserialize_unit<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: de::Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: de::Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let left = self.length()?;
        visitor.visit_seq(Parts { reader: self, left })
    }

    fn deserialize_tuple<V: de::Visitor<'de>>(self, left: usize, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(Parts { reader: self, left })
    }

    fn deserialize_tuple_struct<V: de::Visitor<'de>>(
        self,
        _: &'static str,
        left: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_tuple(left, visitor)
    }

    fn deserialize_map<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let left = self.length()?;
        visitor.visit_map(Parts { reader: self, left })
    }

    fn deserialize_struct<V: de::Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_tuple(fields.len(), visitor)
    }

    fn deserialize_enum<V: de::Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_enum(self)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// The parts of a value that are left. Nothing is set aside for a number of them that only the bytes name: each has to come.
struct Parts<'r, 'de> {
    reader: &'r mut Reader<'de>,
    left: usize,
}

impl<'de> de::SeqAccess<'de> for Parts<'_, 'de> {
    type Error = Error;

    fn next_element_seed<T: de::DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        seed.deserialize(&mut *self.reader).map(Some)
    }
}

impl<'de> de::MapAccess<'de> for Parts<'_, 'de> {
    type Error = Error;

    fn next_key_seed<K: de::DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        de::SeqAccess::next_element_seed(self, seed)
    }

    fn next_value_seed<V: de::DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(&mut *self.reader)
    }
}

impl<'de> de::EnumAccess<'de> for &mut Reader<'de> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: de::DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        let index = u32::from_le_bytes(self.array()?);
        let value = seed.deserialize(IntoDeserializer::<Error>::into_deserializer(index))?;
        Ok((value, self))
    }
}

impl<'de> de::VariantAccess<'de> for &mut Reader<'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }

    fn newtype_variant_seed<T: de::DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: de::Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Error> {
        de::Deserializer::deserialize_tuple(self, length, visitor)
    }

    fn struct_variant<V: de::Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        de::Deserializer::deserialize_tuple(self, fields.len(), visitor)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Serialize};

    use super::*;

    /// As captured: what Dynamo's object store keeps of `(42, "test_item", [1.0, 2.5])`.
    const CAPTURED: [u8; 45] =
        *b"\x2a\0\0\0\x09\0\0\0\0\0\0\0test_item\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\xf0\x3f\0\0\0\0\0\0\x04\x40";

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct Item {
        id: u32,
        name: String,
        values: Vec<f64>,
    }

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    enum Kind {
        None,
        One(i16),
        Two(bool, char),
        Named { key: Option<u8>, unit: () },
    }

    #[test]
    fn a_captured_value_is_read_and_written_byte_for_byte() {
        let item = Item { id: 42, name: "test_item".to_owned(), values: vec![1.0, 2.5] };
        assert_eq!(to_vec(&item).unwrap(), CAPTURED);
        assert_eq!(from_slice::<Item>(&CAPTURED).unwrap(), item);
        // A tuple is a struct without names.
        assert_eq!(from_slice::<(u32, String, Vec<f64>)>(&CAPTURED).unwrap().0, 42);
    }

    #[test]
    fn every_kind_of_value_comes_back() {
        let map = BTreeMap::from([("a".to_owned(), vec![Kind::None, Kind::One(-2)]), ("b".to_owned(), vec![])]);
        let value =
            (map, Kind::Two(true, 'ß'), Kind::Named { key: Some(7), unit: () }, (i128::MIN, u128::MAX, -1_i8, 0.5_f32));
        let bytes = to_vec(&value).unwrap();
        assert_eq!(
            from_slice::<(BTreeMap<String, Vec<Kind>>, Kind, Kind, (i128, u128, i8, f32))>(&bytes).unwrap(),
            value
        );
        // Variants have 32 bits, an option one byte, a character as many as it has in UTF-8.
        assert_eq!(to_vec(&Kind::Two(true, 'ß')).unwrap(), b"\x02\0\0\0\x01\xc3\x9f");
        assert_eq!(to_vec(&Kind::Named { key: None, unit: () }).unwrap(), b"\x03\0\0\0\0");
        for letter in ['a', 'ß', '€', '𝄞'] {
            assert_eq!(from_slice::<char>(&to_vec(&letter).unwrap()).unwrap(), letter);
        }
    }

    #[test]
    fn what_does_not_fit_is_told_with_its_place() {
        for cut in 0..CAPTURED.len() {
            let cut_off = from_slice::<Item>(&CAPTURED[..cut]);
            assert!(matches!(cut_off, Err(Error::Short { at, lack }) if at <= cut && lack > 0), "{cut}: {cut_off:?}");
        }
        let mut long = CAPTURED.to_vec();
        long.push(0);
        assert_eq!(from_slice::<Item>(&long), Err(Error::Long { at: 45 }));
        assert_eq!(from_slice::<bool>(&[2]), Err(Error::Malformed { at: 0, wanted: "0 or 1" }));
        assert_eq!(from_slice::<char>(&[0x80, 0, 0, 0]), Err(Error::Malformed { at: 0, wanted: "character in UTF-8" }));
        let text = from_slice::<String>(b"\x01\0\0\0\0\0\0\0\xff").unwrap_err();
        assert_eq!(text.to_string(), "no text in UTF-8 at byte 8");
        assert!(matches!(from_slice::<Kind>(&[9, 0, 0, 0]), Err(Error::Value(_))));
        // A length that nothing stands behind costs no memory.
        assert!(matches!(from_slice::<Vec<u64>>(&u64::MAX.to_le_bytes()), Err(Error::Short { .. })));
        assert!(matches!(from_slice::<String>(&u64::MAX.to_le_bytes()), Err(Error::Short { .. })));
    }
}
