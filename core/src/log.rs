//! `debug!` and `trace!`: events for `tracing` with that feature, type-checked and gone without it.
//!
//! One grammar in both worlds: fields first (`name = ?debug`, `name = %display`, `name = plain` for numbers, booleans and
//! text), then a message as `format!` takes it.

#[cfg(feature = "tracing")]
macro_rules! debug {
    ($($event:tt)+) => { ::tracing::debug!($($event)+) };
}

#[cfg(feature = "tracing")]
macro_rules! trace {
    ($($event:tt)+) => { ::tracing::trace!($($event)+) };
}

#[cfg(not(feature = "tracing"))]
macro_rules! debug {
    ($($event:tt)+) => { if false { unheard!($($event)+) } };
}

#[cfg(not(feature = "tracing"))]
macro_rules! trace {
    ($($event:tt)+) => { if false { unheard!($($event)+) } };
}

/// Demands of an event what `tracing` would demand.
#[cfg(not(feature = "tracing"))]
macro_rules! unheard {
    ($name:ident = ? $value:expr, $($rest:tt)+) => {{
        let _ = ::core::format_args!("{:?}", $value);
        unheard!($($rest)+);
    }};
    ($name:ident = % $value:expr, $($rest:tt)+) => {{
        let _ = ::core::format_args!("{}", $value);
        unheard!($($rest)+);
    }};
    ($name:ident = $value:expr, $($rest:tt)+) => {{
        $crate::log::plain(&$value);
        unheard!($($rest)+);
    }};
    ($message:literal $($arguments:tt)*) => {{
        let _ = ::core::format_args!($message $($arguments)*);
    }};
}

/// Accepts what `tracing` records without a `?` or `%`.
#[cfg(not(feature = "tracing"))]
pub(crate) const fn plain<T: Plain + ?Sized>(_: &T) {}

/// What `tracing` records as it is.
#[cfg(not(feature = "tracing"))]
pub(crate) trait Plain {}

#[cfg(not(feature = "tracing"))]
macro_rules! plain_types {
    ($($plain:ty),+) => { $(impl Plain for $plain {})+ };
}

#[cfg(not(feature = "tracing"))]
plain_types!(u8, u16, u32, u64, usize, i8, i16, i32, i64, isize, bool, str);

#[cfg(not(feature = "tracing"))]
impl<T: Plain + ?Sized> Plain for &T {}

#[cfg(all(test, not(feature = "tracing")))]
mod tests {
    use core::cell::Cell;

    #[test]
    fn an_unheard_event_evaluates_nothing() {
        let asked = Cell::new(0);
        let ask = || {
            asked.set(asked.get() + 1);
            asked.get()
        };
        debug!(plain = ask(), shown = %ask(), seen = ?ask(), text = "x", "message {} {asked:?}", ask());
        trace!("message {}", ask());
        assert_eq!(asked.get(), 0);
    }
}
