//! Which paths of its own crate a source file names, in imports, in expressions and inside macros.

use proc_macro2::{Delimiter, LexError, TokenStream, TokenTree};

/// One path of the own crate, as the names from the crate's root down. A glob ends in `*`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mention {
    /// The names.
    pub names: Vec<String>,
    /// The line it starts on.
    pub line: usize,
}

/// Every path in `text` that begins with `crate`, `self` or `super`, resolved from `module`.
///
/// # Errors
/// If the text is not made of Rust tokens.
pub fn mentions(module: &[String], text: &str) -> Result<Vec<Mention>, LexError> {
    let mut found = Vec::new();
    walk(text.parse()?, module, &mut found);
    Ok(found)
}

/// The lines of `text` on which the identifier `name` stands, outside comments and strings.
///
/// # Errors
/// If the text is not made of Rust tokens.
pub fn lines_naming(name: &str, text: &str) -> Result<Vec<usize>, LexError> {
    fn search(stream: TokenStream, name: &str, lines: &mut Vec<usize>) {
        for token in stream {
            match token {
                TokenTree::Ident(ident) if ident == name => lines.push(ident.span().start().line),
                TokenTree::Group(group) => search(group.stream(), name, lines),
                _ => {}
            }
        }
    }
    let mut lines = Vec::new();
    search(text.parse()?, name, &mut lines);
    Ok(lines)
}

fn walk(stream: TokenStream, module: &[String], found: &mut Vec<Mention>) {
    let tokens: Vec<TokenTree> = stream.into_iter().collect();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        match token {
            TokenTree::Ident(word) if word == "mod" => {
                if let (Some(TokenTree::Ident(name)), Some(TokenTree::Group(body))) =
                    (tokens.get(at + 1), tokens.get(at + 2))
                {
                    let inner: Vec<String> = module.iter().cloned().chain([name.to_string()]).collect();
                    walk(body.stream(), &inner, found);
                    at += 2;
                }
            }
            TokenTree::Ident(word) if is_colons(&tokens, at + 1) => {
                if let Some(base) = base(&word.to_string(), module) {
                    at = follow(&tokens, at + 3, base, word.span().start().line, found);
                    continue;
                }
            }
            TokenTree::Group(group) => walk(group.stream(), module, found),
            _ => {}
        }
        at += 1;
    }
}

/// The module a path that begins with `word` starts from.
fn base(word: &str, module: &[String]) -> Option<Vec<String>> {
    match word {
        "crate" => Some(Vec::new()),
        "self" => Some(module.to_vec()),
        "super" => Some(module.split_last().map_or(Vec::new(), |(_, above)| above.to_vec())),
        _ => None,
    }
}

/// Follows a path from `at`, just behind its `::`. Returns where it ends.
fn follow(tokens: &[TokenTree], mut at: usize, mut names: Vec<String>, line: usize, found: &mut Vec<Mention>) -> usize {
    loop {
        match tokens.get(at) {
            Some(TokenTree::Ident(word)) if word == "super" => {
                names.pop();
            }
            Some(TokenTree::Ident(word)) if word == "self" => {}
            Some(TokenTree::Ident(word)) => names.push(word.to_string()),
            Some(TokenTree::Punct(star)) if star.as_char() == '*' => names.push("*".into()),
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                branch(group.stream(), &names, found);
                return at + 1;
            }
            _ => break,
        }
        at += 1;
        if !is_colons(tokens, at) {
            break;
        }
        at += 2;
    }
    found.push(Mention { names, line });
    at
}

/// Follows each path of a `{a, b::c}`.
fn branch(stream: TokenStream, names: &[String], found: &mut Vec<Mention>) {
    let tokens: Vec<TokenTree> = stream.into_iter().collect();
    for branch in tokens.split(|token| matches!(token, TokenTree::Punct(comma) if comma.as_char() == ',')) {
        if let Some(first) = branch.first() {
            follow(branch, 0, names.to_vec(), first.span().start().line, found);
        }
    }
}

fn is_colons(tokens: &[TokenTree], at: usize) -> bool {
    let colon = |at: usize| matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == ':');
    colon(at) && colon(at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let module = ["a".to_string(), "b".to_string()];
        mentions(&module, text).expect("test sources lex").into_iter().map(|mention| mention.names.join("::")).collect()
    }

    #[test]
    fn imports_are_resolved_through_groups_globs_and_renames() {
        assert_eq!(found("use crate::x::{self, y::Z, w as v}; use crate::q::*;"), ["x", "x::y::Z", "x::w", "q::*"]);
        assert_eq!(found("use super::c::D; use self::e; use super::super::f;"), ["a::c::D", "a::b::e", "f"]);
        assert_eq!(found("use std::fmt; use bytes::Bytes;"), [""; 0]);
    }

    #[test]
    fn inline_paths_are_found_in_types_bodies_and_macros() {
        assert_eq!(found("fn f(x: crate::t::T) { crate::u::v::<u8>(1); }"), ["t::T", "u::v"]);
        assert_eq!(found("fn f() { write!(out, \"{}\", [crate::m::N]) }"), ["m::N"]);
        assert_eq!(found("macro_rules! m { () => { $crate::log::emit!() } }"), ["log::emit"]);
    }

    #[test]
    fn an_inner_module_counts_as_one_more_step_for_super() {
        assert_eq!(found("mod tests { use super::*; use super::super::c; }"), ["a::b::*", "a::c"]);
    }

    #[test]
    fn visibility_comments_and_strings_are_no_paths() {
        assert_eq!(
            found("pub(crate) fn f() -> &'static str { \"crate::x\" } // crate::y\n/// [`crate::z`]\nfn g() {}"),
            [""; 0]
        );
    }

    #[test]
    fn lines_are_counted_from_one() {
        let mentions = mentions(&[], "\nuse crate::x;\n").expect("test sources lex");
        assert_eq!(mentions[0].line, 2);
        let lines = lines_naming("unsafe", "fn f() {\n unsafe { g() } // unsafe\n}").expect("test sources lex");
        assert_eq!(lines, [2]);
    }
}
