//! Colours, on a terminal that shows them and nowhere else.

use std::env;
use std::io::{IsTerminal, stdout};

/// What a text is, and so how it looks.
#[derive(Debug, Clone, Copy)]
pub(super) enum Look {
    Good,
    Bad,
    Quiet,
    Strong,
}

/// Decides once whether standard output gets colours.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint(bool);

impl Paint {
    /// Colours if standard output is a terminal, unless `NO_COLOR` is set or the terminal is a dumb one.
    pub(super) fn for_stdout() -> Paint {
        let is_unwanted = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let is_dumb = env::var_os("TERM").is_some_and(|value| value == "dumb");
        Paint(stdout().is_terminal() && !is_unwanted && !is_dumb)
    }

    /// The text, in its colour. Control characters of what was stored never reach the terminal.
    pub(super) fn text(self, look: Look, text: &str) -> String {
        let text: String = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        if !self.0 {
            return text;
        }
        let code = match look {
            Look::Good => 32,
            Look::Bad => 31,
            Look::Quiet => 2,
            Look::Strong => 1,
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_and_nothing_stored_can_make_them() {
        assert_eq!(Paint(true).text(Look::Bad, "x\u{1b}[2J"), "\u{1b}[31mx\u{fffd}[2J\u{1b}[0m");
        assert_eq!(Paint(false).text(Look::Strong, "x"), "x");
    }
}
