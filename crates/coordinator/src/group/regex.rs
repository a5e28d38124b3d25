//! Expressions by which members subscribe: RE2's syntax (KIP-848), a match is one of the whole name.
//!
//! The matcher is the `regex` crate, which has RE2's guarantees: time linear in the text, and no look-around or back
//! references. Where it reads a text differently from RE2, [`translate`] says in its terms what RE2 would read, or refuses.

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::str::Chars;

use regex::RegexBuilder;
use tidelog_types::{Str, TopicName};

use super::ClusterView;

/// How many bytes a compiled expression may take.
const SIZE_MAX: usize = 1 << 20;
/// How long an expression may be, in bytes.
const LENGTH_MAX: usize = 4_096;
/// How often RE2 lets something be repeated by number.
const REPEAT_MAX: u32 = 1_000;

/// Finds the topics that each expression matches. This goes over all topics: it is for a thread of its own.
///
/// ```text
/// Effect::ResolveRegexes -> resolve_regexes -> Input::RegexesResolved
/// ```
pub fn resolve_regexes(view: &dyn ClusterView, regexes: &[Str]) -> Vec<(Str, BTreeSet<TopicName>)> {
    let compiled = regexes.iter().map(|regex| compile(regex).ok());
    let compiled: Vec<Option<regex::Regex>> = compiled.collect();
    let mut resolved: Vec<(Str, BTreeSet<TopicName>)> = regexes
        .iter()
        .map(|regex| (regex.clone(), BTreeSet::new()))
        .collect();
    for name in view.topic_names() {
        for ((_, topics), regex) in resolved.iter_mut().zip(&compiled) {
            if regex.as_ref().is_some_and(|regex| regex.is_match(&name)) {
                topics.insert(name.detach());
            }
        }
    }
    resolved
}

/// Compiles an expression, or says what is wrong with it.
pub(super) fn compile(pattern: &str) -> Result<regex::Regex, String> {
    if pattern.len() > LENGTH_MAX {
        return Err(format!("it is longer than {LENGTH_MAX} bytes"));
    }
    let translated = translate(pattern)?;
    RegexBuilder::new(&format!(r"\A(?:{translated})\z"))
        .size_limit(SIZE_MAX)
        .dfa_size_limit(SIZE_MAX)
        .build()
        .map_err(|error| error.to_string())
}

/// Says in the words of the `regex` crate what RE2 reads.
fn translate(pattern: &str) -> Result<String, String> {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern.chars().peekable();
    // Whether the last thing was a repetition, which cannot be repeated itself.
    let mut repeats = false;
    while let Some(c) = rest.next() {
        let is_repetition = match c {
            '\\' => {
                escape(&mut rest, &mut out)?;
                false
            }
            '[' => {
                class(&mut rest, &mut out)?;
                false
            }
            '(' => {
                group(&mut rest, &mut out)?;
                false
            }
            '{' => repetition(&mut rest, &mut out)?,
            c => {
                out.push(c);
                matches!(c, '*' | '+' | '?')
            }
        };
        if is_repetition && repeats {
            return Err("a repetition is repeated".into());
        }
        // A question mark behind it makes it match as little as it can.
        repeats = is_repetition;
        if is_repetition && c != '{' && rest.next_if_eq(&'?').is_some() {
            out.push('?');
        }
    }
    Ok(out)
}

/// What follows a backslash.
fn escape(rest: &mut Peekable<Chars<'_>>, out: &mut String) -> Result<(), String> {
    match rest.next() {
        None => return Err("it ends with a backslash".into()),
        // Everything up to \E stands for itself.
        Some('Q') => {
            let mut literal = String::new();
            loop {
                match rest.next() {
                    Some('\\') if rest.next_if_eq(&'E').is_some() => break,
                    Some(c) => literal.push(c),
                    None => break,
                }
            }
            out.push_str(&regex::escape(&literal));
        }
        Some(c @ ('u' | 'U' | '<' | '>' | 'E')) => {
            return Err(format!("there is no escape \\{c}"));
        }
        // Half of a word boundary is not known to RE2.
        Some(c @ ('b' | 'B')) if rest.peek() == Some(&'{') => {
            return Err(format!("there is no escape \\{c}{{"));
        }
        Some(c @ '0'..='7') => octal(c, rest, out)?,
        Some(c) => out.extend(['\\', c]),
    }
    Ok(())
}

/// `\123` is a character by its number; `\1` would be a reference back, which RE2 does not have either.
fn octal(first: char, rest: &mut Peekable<Chars<'_>>, out: &mut String) -> Result<(), String> {
    let mut code = first.to_digit(8).unwrap_or_default();
    let mut digits = 1;
    while digits < 3
        && let Some(digit) = rest.peek().and_then(|c| c.to_digit(8))
    {
        rest.next();
        code = code * 8 + digit;
        digits += 1;
    }
    if first != '0' && digits == 1 {
        return Err(format!("there is no escape \\{first}"));
    }
    out.push_str(&format!(r"\x{{{code:x}}}"));
    Ok(())
}

/// What follows an opening bracket. The `regex` crate has operations on classes and nested classes, which are plain
/// characters to RE2.
fn class(rest: &mut Peekable<Chars<'_>>, out: &mut String) -> Result<(), String> {
    out.push('[');
    if rest.next_if_eq(&'^').is_some() {
        out.push('^');
    }
    let mut first = true;
    loop {
        let Some(c) = rest.next() else {
            return Err("a class has no end".into());
        };
        match c {
            ']' if !first => break,
            ']' => out.push_str(r"\]"),
            '[' if rest.peek() == Some(&':') => posix_class(rest, out)?,
            '\\' => escape(rest, out)?,
            '[' | '&' | '~' => out.extend(['\\', c]),
            // A range that ends with a dash.
            '-' if !first && rest.next_if_eq(&'-').is_some() => out.push_str(r"-\-"),
            '-' if first => out.push_str(r"\-"),
            c => out.push(c),
        }
        first = false;
    }
    out.push(']');
    Ok(())
}

/// `[:alpha:]` and the like.
fn posix_class(rest: &mut Peekable<Chars<'_>>, out: &mut String) -> Result<(), String> {
    let mut name = String::new();
    for c in rest.by_ref() {
        name.push(c);
        if name.len() > 1 && name.ends_with(":]") {
            out.push('[');
            out.push_str(&name);
            return Ok(());
        }
    }
    Err("a class has no end".into())
}

/// What follows an opening parenthesis: RE2 has fewer flags.
fn group(rest: &mut Peekable<Chars<'_>>, out: &mut String) -> Result<(), String> {
    out.push('(');
    if rest.next_if_eq(&'?').is_none() {
        return Ok(());
    }
    out.push('?');
    if matches!(rest.peek(), Some('P' | '<')) {
        return Ok(());
    }
    while let Some(c) = rest.next_if(|c| !matches!(c, ':' | ')')) {
        if !matches!(c, 'i' | 'm' | 's' | 'U' | '-') {
            return Err(format!("there is no flag {c}"));
        }
        out.push(c);
    }
    Ok(())
}

/// What follows an opening brace: a number of repetitions, or else the brace is a plain character.
/// True if it is a repetition.
fn repetition(rest: &mut Peekable<Chars<'_>>, out: &mut String) -> Result<bool, String> {
    let ahead: String = rest.clone().take_while(|c| *c != '}').take(12).collect();
    let closed = rest.clone().nth(ahead.chars().count()) == Some('}');
    let (least, most) = ahead.split_once(',').unwrap_or((&ahead, ""));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !closed || !is_number(least) || !(most.is_empty() || is_number(most)) {
        out.push_str(r"\{");
        return Ok(false);
    }
    for number in [least, most].into_iter().filter(|text| !text.is_empty()) {
        if number
            .parse::<u32>()
            .is_ok_and(|number| number > REPEAT_MAX)
        {
            return Err(format!("{number} repetitions are too many"));
        }
    }
    out.push('{');
    out.push_str(&ahead);
    out.push('}');
    // What was looked at, and the closing brace.
    for _ in 0..=ahead.len() {
        rest.next();
    }
    if rest.next_if_eq(&'?').is_some() {
        out.push('?');
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_match_whole_names_as_in_re2() {
        for (pattern, yes, no) in [
            ("orders", "orders", "orders-1"),
            ("orders.*", "orders-1", "my-orders"),
            ("a|b", "b", "ab"),
            (r"\Qa.b\E+", "a.bb", "axb"),
            (r"\Qa.b", "a.b", "axb"),
            ("[a&&b]", "&", "c"),
            ("[[]x]", "[x]", "x"),
            ("[]a]", "]", "b"),
            ("[[:digit:]]+", "42", "x"),
            ("[+--]", ",", "a"),
            ("a{2}", "aa", "a"),
            ("a{1,2}?b*?", "aab", "aaab"),
            ("a{x", "a{x", "a"),
            ("a{,2}", "a{,2}", "a"),
            (r"\141", "a", "b"),
            (r"(?i)ABC", "abc", "ab"),
            (r"(?P<n>x)(?:y)", "xy", "x"),
            (r"\pLx", "éx", "1x"),
        ] {
            let regex = compile(pattern).unwrap_or_else(|e| panic!("{pattern}: {e}"));
            assert!(regex.is_match(yes), "{pattern} matches {yes}");
            assert!(!regex.is_match(no), "{pattern} does not match {no}");
        }
    }

    #[test]
    fn what_re2_refuses_is_refused() {
        for pattern in [
            "(",
            "[a",
            "a**",
            r"\1",
            r"(?=a)",
            r"(?x)a",
            r"\u0041",
            r"\b{start}",
            "a{1001}",
            "\\",
            "(?<=a)b",
            "*",
            r"a\",
        ] {
            assert!(compile(pattern).is_err(), "{pattern}");
        }
        assert!(compile(&"a".repeat(LENGTH_MAX + 1)).is_err());
        assert!(
            compile("((a{1000}){1000}){1000}").is_err(),
            "it would be huge"
        );
    }
}
