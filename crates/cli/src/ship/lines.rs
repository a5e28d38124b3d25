//! From bytes to records: lines, lines that belong together, lines that are too long. It knows no files.

use std::time::{Duration, Instant};

use regex::bytes::Regex;

/// What becomes of a line that is longer than it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum TooLong {
    /// It becomes several records that follow each other.
    Split,
    /// Its beginning becomes a record, the rest is passed over.
    Cut,
    /// It is passed over.
    Skip,
}

/// How lines become records.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    /// How many bytes a record may have.
    pub(super) bytes_max: usize,
    pub(super) too_long: TooLong,
    /// What a line matches that begins a record; those that do not belong to the one before. Nothing, if each line is a record.
    pub(super) first_line: Option<Regex>,
}

/// A record: a line, several or a part of one, and where it stands in its file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) start: u64,
    /// The position behind it, and behind its end of line.
    pub(super) end: u64,
    pub(super) value: Vec<u8>,
}

/// Lines that make a record, to which more may belong.
#[derive(Debug)]
struct Joined {
    piece: Piece,
    since: Instant,
    /// It was too long: what comes is passed over, or, if it is skipped, all of it.
    is_full: bool,
}

/// The records of one file, as its bytes come.
#[derive(Debug)]
pub(super) struct Splitter {
    rules: Rules,
    /// Of a line whose end has not come yet, as much as it may have.
    line: Vec<u8>,
    /// Where it begins.
    start: u64,
    /// How much of it is passed over.
    dropped: u64,
    joined: Option<Joined>,
    /// How many lines were cut or skipped.
    pub(super) shortened: u64,
}

impl Splitter {
    /// For what follows a position.
    pub(super) const fn new(rules: Rules, position: u64) -> Self {
        Self {
            rules,
            line: Vec::new(),
            start: position,
            dropped: 0,
            joined: None,
            shortened: 0,
        }
    }

    /// The position of the byte that is wanted next.
    pub(super) fn position(&self) -> u64 {
        self.start + self.line.len() as u64 + self.dropped
    }

    /// Where the first byte stands that no record has had yet.
    pub(super) fn unread(&self) -> u64 {
        self.joined.as_ref().map_or(self.start, |it| it.piece.start)
    }

    /// Whether a line has begun and not ended.
    pub(super) fn is_within_line(&self) -> bool {
        self.position() > self.start
    }

    /// Takes the bytes that follow.
    pub(super) fn feed(&mut self, now: Instant, bytes: &[u8], pieces: &mut Vec<Piece>) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            match part.strip_suffix(b"\n") {
                Some(rest) => {
                    self.extend(now, rest, pieces);
                    self.end_line(now, 1, pieces);
                }
                None => self.extend(now, part, pieces),
            }
        }
    }

    /// Gives what waits for more lines, if it has waited that long.
    pub(super) fn settle(&mut self, now: Instant, wait: Duration, pieces: &mut Vec<Piece>) {
        let is_due = |joined: &mut Joined| now.saturating_duration_since(joined.since) >= wait;
        if self.joined.as_mut().is_some_and(is_due) {
            self.give_joined(pieces);
        }
    }

    /// Gives everything: nothing follows.
    pub(super) fn finish(&mut self, now: Instant, pieces: &mut Vec<Piece>) {
        if self.is_within_line() {
            self.end_line(now, 0, pieces);
        }
        self.give_joined(pieces);
    }

    fn extend(&mut self, now: Instant, mut part: &[u8], pieces: &mut Vec<Piece>) {
        let max = self.rules.bytes_max;
        while self.line.len() + part.len() > max && self.rules.too_long == TooLong::Split {
            let (fits, rest) = part.split_at(max - self.line.len());
            self.line.extend_from_slice(fits);
            self.end_line(now, 0, pieces);
            part = rest;
        }
        let (fits, rest) = part.split_at(part.len().min(max - self.line.len()));
        self.line.extend_from_slice(fits);
        self.dropped += rest.len() as u64;
    }

    /// Ends the line with so many bytes that are not part of it.
    fn end_line(&mut self, now: Instant, ending: u64, pieces: &mut Vec<Piece>) {
        let end = self.position() + ending;
        let is_short = self.dropped > 0;
        let mut value = std::mem::take(&mut self.line);
        if ending > 0 && value.last() == Some(&b'\r') && !is_short {
            value.pop();
        }
        let piece = Piece {
            start: self.start,
            end,
            value,
        };
        self.start = end;
        self.dropped = 0;
        self.shortened += u64::from(is_short);
        if is_short && self.rules.too_long == TooLong::Skip {
            return;
        }
        match &self.rules.first_line {
            None => pieces.push(piece),
            Some(first) => {
                let begins = first.is_match(&piece.value);
                self.join(now, piece, begins, pieces);
            }
        }
    }

    fn join(&mut self, now: Instant, line: Piece, begins: bool, pieces: &mut Vec<Piece>) {
        let max = self.rules.bytes_max;
        let Some(joined) = self.joined.as_mut().filter(|_| !begins) else {
            self.give_joined(pieces);
            self.joined = Some(Joined {
                piece: line,
                since: now,
                is_full: false,
            });
            return;
        };
        joined.since = now;
        let is_too_long = joined.piece.value.len() + 1 + line.value.len() > max;
        match (is_too_long || joined.is_full, self.rules.too_long) {
            (true, TooLong::Split) => {
                self.give_joined(pieces);
                self.joined = Some(Joined {
                    piece: line,
                    since: now,
                    is_full: false,
                });
            }
            (true, _) => {
                self.shortened += u64::from(!joined.is_full);
                joined.is_full = true;
                joined.piece.end = line.end;
            }
            (false, _) => {
                joined.piece.value.push(b'\n');
                joined.piece.value.extend_from_slice(&line.value);
                joined.piece.end = line.end;
            }
        }
    }

    fn give_joined(&mut self, pieces: &mut Vec<Piece>) {
        if let Some(joined) = self.joined.take() {
            let is_skipped = joined.is_full && self.rules.too_long == TooLong::Skip;
            if !is_skipped {
                pieces.push(joined.piece);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules(bytes_max: usize, too_long: TooLong, first_line: Option<&str>) -> Rules {
        Rules {
            bytes_max,
            too_long,
            first_line: first_line.map(|text| Regex::new(text).unwrap()),
        }
    }

    fn pieces(rules: Rules, parts: &[&str], finish: bool) -> (Vec<(u64, u64, String)>, u64) {
        let mut splitter = Splitter::new(rules, 0);
        let mut pieces = Vec::new();
        let now = Instant::now();
        for part in parts {
            splitter.feed(now, part.as_bytes(), &mut pieces);
        }
        if finish {
            splitter.finish(now, &mut pieces);
        }
        let pieces = pieces.into_iter();
        let pieces = pieces.map(|it| (it.start, it.end, String::from_utf8(it.value).unwrap()));
        (pieces.collect(), splitter.shortened)
    }

    fn values(rules: Rules, parts: &[&str], finish: bool) -> Vec<String> {
        let (pieces, _) = pieces(rules, parts, finish);
        pieces.into_iter().map(|(.., value)| value).collect()
    }

    #[test]
    fn a_line_waits_for_its_end() {
        let plain = || rules(100, TooLong::Split, None);
        let (first, _) = pieces(plain(), &["one\r\ntw", "o\n\nthr"], false);
        let expected = [(0, 5, "one"), (5, 9, "two"), (9, 10, "")];
        assert_eq!(first, expected.map(|(a, b, c)| (a, b, c.to_owned())));
        assert_eq!(values(plain(), &["x\nthr", "ee"], true), ["x", "three"]);
    }

    #[test]
    fn what_is_too_long_is_split_cut_or_skipped() {
        let text = ["abcdefgh", "ij\nk\n"];
        let (split, _) = pieces(rules(4, TooLong::Split, None), &text, false);
        let expected = [(0, 4, "abcd"), (4, 8, "efgh"), (8, 11, "ij"), (11, 13, "k")];
        assert_eq!(split, expected.map(|(a, b, c)| (a, b, c.to_owned())));
        let (cut, shortened) = pieces(rules(4, TooLong::Cut, None), &text, false);
        let expected = [(0, 11, "abcd"), (11, 13, "k")];
        assert_eq!(cut, expected.map(|(a, b, c)| (a, b, c.to_owned())));
        assert_eq!(shortened, 1);
        let (skipped, shortened) = pieces(rules(4, TooLong::Skip, None), &text, false);
        assert_eq!(skipped, [(11, 13, "k".to_owned())]);
        assert_eq!(shortened, 1);
        // As long as it may be is not too long.
        assert_eq!(
            values(rules(4, TooLong::Skip, None), &["abcd\n"], false),
            ["abcd"]
        );
    }

    #[test]
    fn lines_that_belong_together_are_one_record() {
        let text = ["at a\n1 error\n at x\n at y\n2 fine\n"];
        let joining = |too_long, max| rules(max, too_long, Some("^[0-9]"));
        let split = joining(TooLong::Split, 100);
        assert_eq!(
            values(split.clone(), &text, false),
            ["at a", "1 error\n at x\n at y"]
        );
        assert_eq!(values(split, &text, true).last().unwrap(), "2 fine");
        let full = |too_long| values(joining(too_long, 13), &text, true);
        assert_eq!(
            full(TooLong::Split),
            ["at a", "1 error\n at x", " at y", "2 fine"]
        );
        assert_eq!(full(TooLong::Cut), ["at a", "1 error\n at x", "2 fine"]);
        assert_eq!(full(TooLong::Skip), ["at a", "2 fine"]);
    }

    #[test]
    fn what_waits_for_more_lines_does_not_wait_for_ever() {
        let mut splitter = Splitter::new(rules(100, TooLong::Split, Some("^[0-9]")), 7);
        let (begun, wait) = (Instant::now(), Duration::from_secs(1));
        let mut pieces = Vec::new();
        splitter.feed(begun, b"1 a\n", &mut pieces);
        splitter.settle(begun, wait, &mut pieces);
        assert_eq!((pieces.len(), splitter.unread()), (0, 7));
        splitter.settle(begun + wait, wait, &mut pieces);
        assert_eq!((pieces[0].start, pieces[0].end), (7, 11));
        assert_eq!(splitter.unread(), 11);
    }

    proptest! {
        /// However bytes come, the records are the same, and nothing lies between them.
        #[test]
        fn pieces_do_not_depend_on_how_bytes_come(
            text in "[ab1\n]{0,60}", cuts in proptest::collection::vec(0_usize..60, 0..5),
            too_long in prop_oneof![Just(TooLong::Split), Just(TooLong::Cut), Just(TooLong::Skip)],
            joins: bool, max in 1_usize..12,
        ) {
            let rules = rules(max, too_long, joins.then_some("^1"));
            let (whole, _) = pieces(rules.clone(), &[&text], true);
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let parts: Vec<_> = cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
            prop_assert_eq!(&pieces(rules, &parts, true).0, &whole);
            if too_long != TooLong::Skip {
                let mut at = 0;
                for (start, end, value) in &whole {
                    prop_assert_eq!(*start, at);
                    prop_assert!(value.len() <= max);
                    at = *end;
                }
                prop_assert_eq!(at, text.len() as u64);
            }
            if too_long == TooLong::Split && !joins {
                let all: String = whole.iter().map(|(.., value)| value.as_str()).collect();
                prop_assert_eq!(all, text.replace('\n', ""));
            }
        }
    }
}
