//! What every file owes: a first sentence, a bounded length, no definitions in a face.

use proc_macro2::Span;
use syn::punctuated::Punctuated;
use syn::{Attribute, Item, Meta, Token};

/// Most lines of a file.
pub const LONGEST: usize = 800;

/// The definitions in a face, as `line: what`. Modules, imports and test modules are none.
///
/// # Errors
/// If the text is not Rust.
pub fn definitions(text: &str) -> syn::Result<Vec<String>> {
    let file = syn::parse_file(text)?;
    Ok(file.items.iter().filter_map(definition).collect())
}

/// What is wrong with the start and the length of a file.
pub fn shape(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let paragraph: Vec<&str> = text
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .map(str::trim)
        .take_while(|line| !line.is_empty())
        .collect();
    let sentence = paragraph.join(" ");
    if !sentence.ends_with(['.', ':']) || !sentence.contains(' ') {
        wrong.push(format!("does not start with a `//!` sentence: {sentence:?}"));
    }
    let lines = text.lines().count();
    if lines > LONGEST {
        wrong.push(format!("has {lines} lines, {LONGEST} are allowed"));
    }
    wrong
}

/// Lines of code, with neither comments nor the tests at the end of the file.
pub fn lines_of_code(text: &str) -> usize {
    let is_code = |line: &&str| !line.is_empty() && !line.starts_with("//");
    let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    code.lines().map(str::trim).filter(is_code).count()
}

/// The modules a file declares as files of their own for tests only.
///
/// # Errors
/// If the text is not Rust.
pub fn test_modules(text: &str) -> syn::Result<Vec<String>> {
    let declared = |item| match item {
        Item::Mod(module) if module.content.is_none() && is_test(&module.attrs) => Some(module.ident.to_string()),
        _ => None,
    };
    Ok(syn::parse_file(text)?.items.into_iter().filter_map(declared).collect())
}

fn definition(item: &Item) -> Option<String> {
    let at = |span: Span, what: &str| Some(format!("{}: {what}", span.start().line));
    match item {
        Item::Use(_) | Item::ExternCrate(_) => None,
        Item::Mod(module) if module.content.is_none() || is_test(&module.attrs) => None,
        Item::Mod(module) => at(module.mod_token.span, "an inline module"),
        Item::Fn(found) => at(found.sig.fn_token.span, "a function"),
        Item::Struct(found) => at(found.struct_token.span, "a struct"),
        Item::Enum(found) => at(found.enum_token.span, "an enum"),
        Item::Trait(found) => at(found.trait_token.span, "a trait"),
        Item::Const(found) => at(found.const_token.span, "a constant"),
        Item::Static(found) => at(found.static_token.span, "a static"),
        Item::Type(found) => at(found.type_token.span, "a type alias"),
        Item::Impl(found) => at(found.impl_token.span, "an impl"),
        Item::Macro(found) => at(found.mac.bang_token.span, "a macro"),
        _ => at(Span::call_site(), "a definition"),
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    let asks = |attribute: &Attribute| attribute.parse_args::<Meta>().is_ok_and(|meta| demands_test(&meta));
    attributes.iter().any(|attribute| attribute.path().is_ident("cfg") && asks(attribute))
}

/// Whether a condition holds in tests only: `test` itself, or `all` of several that include it.
fn demands_test(meta: &Meta) -> bool {
    match meta {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) if list.path.is_ident("all") => list
            .parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated)
            .is_ok_and(|parts| parts.iter().any(demands_test)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_blank_lines_and_the_tests_at_the_end_are_no_code() {
        let text = "//! A file.\n\nuse a::b;\n/// Docs.\nfn f() {\n    // Why.\n}\n\n#[cfg(test)]\nmod tests {\n    fn g() {}\n}\n";
        assert_eq!(lines_of_code(text), 3);
    }

    #[test]
    fn a_face_of_modules_imports_and_tests_defines_nothing() {
        let face = "//! Face.\n#![no_std]\nextern crate alloc;\npub mod a;\npub use a::B;\n#[cfg(test)]\nmod tests { fn f() {} }";
        assert_eq!(definitions(face).expect("the face parses"), [""; 0]);
    }

    #[test]
    fn each_kind_of_definition_in_a_face_is_found() {
        let kinds = [
            "fn f() {}",
            "struct S;",
            "enum E {}",
            "trait T {}",
            "const C: u8 = 1;",
            "static S: u8 = 1;",
            "type T = u8;",
            "impl A {}",
            "macro_rules! m { () => {} }",
            "thing!();",
            "mod inline {}",
            "#[cfg(unix)] mod inline {}",
            "union U { a: u8 }",
        ];
        for kind in kinds {
            let found = definitions(&format!("//! Face.\n{kind}")).expect("each kind parses");
            assert_eq!(found.len(), 1, "{kind}: {found:?}");
        }
    }

    #[test]
    fn only_modules_under_cfg_test_and_without_a_body_are_test_files() {
        let text = "#[cfg(test)] mod tests; mod real; #[cfg(any(test, unix))] mod unix; #[cfg(test)] mod inline {}
            #[cfg(all(test, unix))] mod harness; #[cfg(not(test))] mod never;";
        assert_eq!(test_modules(text).expect("the text parses"), ["tests", "harness"]);
    }

    #[test]
    fn a_file_starts_with_a_sentence() {
        assert_eq!(shape("//! What this file holds.\n\nfn f() {}"), [""; 0]);
        assert_eq!(shape("//! A sentence over\n//! two lines.\n//!\n//! More"), [""; 0]);
        for text in
            ["", "fn f() {}", "// Not a doc.", "//! placeholder", "//!\n//! Late sentence.", "\n//! A late sentence."]
        {
            assert_eq!(shape(text).len(), 1, "{text:?}");
        }
    }

    #[test]
    fn a_file_that_is_too_long_is_named_with_its_length() {
        let text = format!("//! A long file.\n{}", "\n".repeat(LONGEST));
        assert!(shape(&text)[0].contains("801 lines"));
    }
}
