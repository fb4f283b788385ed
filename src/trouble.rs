//! Says a repeated error once, then in summaries, and its end once.

use std::time::Duration;

use tokio::time::Instant;

/// A repeated error is mentioned again after so long.
const AGAIN: Duration = Duration::from_secs(600);

/// The trouble of one stream or one source.
#[derive(Debug, Default)]
pub struct Trouble {
    now: Option<Case>,
}

#[derive(Debug)]
struct Case {
    code: String,
    since: Instant,
    said: Instant,
    unsaid: u32,
}

/// What to log.
#[derive(Debug, PartialEq, Eq)]
pub enum Say {
    /// The error, in full.
    Error,
    /// The error, and that it came so many times since it was said last.
    Again(u32),
    /// Nothing this time.
    Nothing,
}

impl Trouble {
    /// An error happened.
    pub fn failed(&mut self, code: &str, now: Instant) -> Say {
        match &mut self.now {
            Some(case) if case.code == code && now - case.said < AGAIN => {
                case.unsaid += 1;
                Say::Nothing
            }
            Some(case) if case.code == code => {
                case.said = now;
                Say::Again(std::mem::take(&mut case.unsaid) + 1)
            }
            other => {
                let since = other.as_ref().map_or(now, |case| case.since);
                *other = Some(Case { code: code.to_owned(), since, said: now, unsaid: 0 });
                Say::Error
            }
        }
    }

    /// It went well; how long it had not, the first time.
    pub fn recovered(&mut self, now: Instant) -> Option<Duration> {
        self.now.take().map(|case| now - case.since)
    }

    /// Whether the last try failed.
    pub fn is_on(&self) -> bool {
        self.now.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_error_is_said_once_then_summed_up_and_its_end_is_said_once() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut trouble = Trouble::default();
        assert_eq!(trouble.failed("SlowDown", at(0)), Say::Error);
        assert_eq!(trouble.failed("SlowDown", at(60)), Say::Nothing);
        assert_eq!(trouble.failed("SlowDown", at(601)), Say::Again(2));
        assert_eq!(trouble.failed("AccessDenied", at(602)), Say::Error);
        assert_eq!(trouble.recovered(at(700)), Some(Duration::from_secs(700)));
        assert_eq!(trouble.recovered(at(701)), None);
    }
}
