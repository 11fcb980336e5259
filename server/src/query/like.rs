//! The patterns of `LIKE`. Owns their syntax and a matcher without backtracking: time is at most the product of the
//! lengths, whatever the pattern.
//!
//! `%` is any run of characters, `_` any one, `[abc]`, `[a-f]` and `[^abc]` one of a set or not of it; `ESCAPE 'c'`
//! makes the character after `c` stand for itself.

/// A compiled pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    elements: Vec<Element>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Element {
    Literal(char),
    AnyOne,
    AnyRun,
    Set { negated: bool, ranges: Vec<(char, char)> },
}

impl Pattern {
    /// Compiles a pattern; every text is one: a bracket that is never closed stands for itself.
    pub(super) fn new(text: &str, escape: Option<char>) -> Self {
        let characters: Vec<char> = text.chars().collect();
        let mut elements = Vec::new();
        let mut rest = characters.as_slice();
        while let Some((&first, tail)) = rest.split_first() {
            rest = tail;
            if Some(first) == escape
                && let Some((&escaped, tail)) = rest.split_first()
            {
                elements.push(Element::Literal(escaped));
                rest = tail;
                continue;
            }
            elements.push(match first {
                // Two runs in a row are one.
                '%' if elements.last() == Some(&Element::AnyRun) => continue,
                '%' => Element::AnyRun,
                '_' => Element::AnyOne,
                '[' => match set(rest) {
                    Some((element, tail)) => {
                        rest = tail;
                        element
                    }
                    None => Element::Literal('['),
                },
                literal => Element::Literal(literal),
            });
        }
        Pattern { elements }
    }

    /// What every text that matches begins with, and whether that is all of it.
    pub(super) fn beginning(&self) -> (String, bool) {
        let literal = |element: &Element| if let Element::Literal(literal) = element { Some(*literal) } else { None };
        let text: String = self.elements.iter().map_while(literal).collect();
        let whole = self.elements.iter().all(|element| literal(element).is_some());
        (text, whole)
    }

    /// How much work a match of `text` can be.
    pub(super) fn work(&self, text: &str) -> usize {
        self.elements.len().saturating_mul(text.len())
    }

    /// Whether the pattern matches all of `text`.
    pub(super) fn matches(&self, text: &str) -> bool {
        let mut rest = text;
        let mut next = 0;
        // Where to go on after a mismatch: behind the last run, one character later in the text. Earlier runs need not
        // be tried again.
        let mut retry: Option<(usize, &str)> = None;
        loop {
            let mut characters = rest.chars();
            match (self.elements.get(next), characters.next()) {
                (Some(Element::AnyRun), _) => {
                    next += 1;
                    retry = Some((next, rest));
                    continue;
                }
                (Some(element), Some(character)) if element.accepts(character) => {
                    next += 1;
                    rest = characters.as_str();
                    continue;
                }
                (None, None) => return true,
                _ => {}
            }
            let Some((behind_run, from)) = retry else { return false };
            let mut characters = from.chars();
            if characters.next().is_none() {
                return false;
            }
            rest = characters.as_str();
            next = behind_run;
            retry = Some((behind_run, rest));
        }
    }
}

impl Element {
    /// Whether this element takes this one character.
    fn accepts(&self, character: char) -> bool {
        match self {
            Element::Literal(literal) => *literal == character,
            Element::AnyOne => true,
            Element::AnyRun => false,
            Element::Set { negated, ranges } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&character)) != *negated
            }
        }
    }
}

/// The set whose opening bracket came before `text`, and what follows it.
fn set(text: &[char]) -> Option<(Element, &[char])> {
    let (negated, body) = match text.split_first() {
        Some(('^', tail)) => (true, tail),
        _ => (false, text),
    };
    // A closing bracket that comes first is a member.
    let end = body.iter().skip(1).position(|character| *character == ']')? + 1;
    let (mut members, tail) = body.split_at(end);
    let mut ranges = Vec::new();
    loop {
        members = match members {
            [] => return Some((Element::Set { negated, ranges }, tail.get(1..)?)),
            [low, '-', high, more @ ..] => {
                ranges.push((*low, *high));
                more
            }
            [one, more @ ..] => {
                ranges.push((*one, *one));
                more
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn like(text: &str, pattern: &str) -> bool {
        Pattern::new(pattern, Some('!')).matches(text)
    }

    #[test]
    fn wildcards_sets_and_escapes() {
        for (text, pattern, expected) in [
            ("", "", true),
            ("", "%", true),
            ("a", "", false),
            ("fruit", "fruit", true),
            ("fruit", "Fruit", false),
            ("fruit salad", "fruit%", true),
            ("fresh fruit", "%fruit", true),
            ("a fruit b", "%fruit%", true),
            ("abab", "%ab", true),
            ("aab", "a%b", true),
            ("日本", "__", true),
            ("100%", "100!%", true),
            ("1000", "100!%", false),
            ("cat", "[bc]at", true),
            ("hat", "[bc]at", false),
            ("hat", "[^bc]at", true),
            ("5x", "[0-9]x", true),
            ("]", "[]]", true),
            ("[a", "[a", true),
            ("a!", "a!", true),
        ] {
            assert_eq!(like(text, pattern), expected, "{text:?} LIKE {pattern:?}");
        }
    }

    #[test]
    fn many_runs_do_not_explode() {
        let text = "a".repeat(20_000);
        assert!(!like(&text, &("%a".repeat(200) + "b")));
    }

    /// The definition, by trying everything.
    fn slow(text: &[char], pattern: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('%', rest)) => (0..=text.len()).any(|skip| slow(&text[skip..], rest)),
            Some(('_', rest)) => !text.is_empty() && slow(&text[1..], rest),
            Some((one, rest)) => text.first() == Some(one) && slow(&text[1..], rest),
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(text in "[ab]{0,8}", pattern in "[ab%_]{0,8}") {
            let characters = |text: &str| text.chars().collect::<Vec<_>>();
            let expected = slow(&characters(&text), &characters(&pattern));
            prop_assert_eq!(Pattern::new(&pattern, None).matches(&text), expected);
        }
    }
}
