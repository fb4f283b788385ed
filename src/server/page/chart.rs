//! Lag and throughput as two drawings, and in words for those who do not see them.

use std::fmt::Write as _;

use indicatif::HumanBytes;

use crate::clock::{Timestamp, seconds_between};
use crate::server::history::{HOURS, Point, STEP, Series};
use crate::status::Age;

/// Units of the drawing; the page scales it.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 100.0;

/// Minutes that the axis may span: the least that shows all that is known, so that a young process shows more than a speck.
const SPANS: [i64; 4] = [30, 60, 120, HOURS * 60];

/// Two drawings with one time axis.
pub struct Charts {
    /// How long the axis is, in words.
    pub span: String,
    /// The longest lag.
    pub lag: Chart,
    /// Objects a minute.
    pub objects: Chart,
    /// Times on the axis, with their places.
    pub hours: Vec<(String, f64)>,
}

/// The time axis: its last moment, and its length in seconds.
#[derive(Clone, Copy)]
struct Axis {
    now: Timestamp,
    seconds: i64,
}

/// One drawing.
pub struct Chart {
    /// In words.
    pub summary: String,
    /// What the top stands for.
    pub top: String,
    /// An SVG path within 720 × 100.
    pub path: String,
}

impl Charts {
    /// The last hours before `now`.
    pub fn of(series: &Series, now: Timestamp) -> Self {
        let all = series.points().filter(|(at, _)| seconds_between(*at, now) < HOURS * 3600);
        let points: Vec<(Timestamp, Point)> = all.collect();
        let known = points.first().map_or(0, |(at, _)| seconds_between(*at, now));
        let minutes = SPANS.into_iter().find(|minutes| minutes * 60 > known).unwrap_or(HOURS * 60);
        let axis = Axis { now, seconds: minutes * 60 };
        let span = if minutes < 60 { format!("{minutes} minutes") } else { format!("{} h", minutes / 60) };
        Self { lag: lag(&points, axis), objects: objects(&points, &span, axis), hours: axis.marks(), span }
    }
}

fn lag(points: &[(Timestamp, Point)], axis: Axis) -> Chart {
    let known = || points.iter().filter_map(|(at, point)| Some((*at, point.lag?)));
    let Some((worst, highest)) = known().max_by_key(|(_, lag)| *lag) else {
        return Chart { summary: "No lag is known yet.".into(), top: String::new(), path: String::new() };
    };
    let latest = known().next_back().map_or(0, |(_, lag)| lag);
    let top = nice(f64::from(highest));
    let age = |seconds: f64| Age(whole(seconds)).to_string();
    let summary = format!(
        "Lag: {} now, {} at most, at {}.",
        age(f64::from(latest)),
        age(f64::from(highest)),
        worst.strftime("%H:%MZ")
    );
    let mut path = String::new();
    let mut pen = false;
    for (at, point) in points {
        match point.lag {
            Some(lag) => {
                let (x, y) = (axis.place(*at), HEIGHT * (1.0 - f64::from(lag) / top));
                // One step as a level line: a single point is seen, too.
                let _ = write!(path, "{}{x:.1} {y:.1}h{:.1}", if pen { 'L' } else { 'M' }, axis.step());
                pen = true;
            }
            None => pen = false,
        }
    }
    Chart { summary, top: age(top), path }
}

fn objects(points: &[(Timestamp, Point)], span: &str, axis: Axis) -> Chart {
    let sum: u64 = points.iter().map(|(_, point)| u64::from(point.objects)).sum();
    let kib: u64 = points.iter().map(|(_, point)| u64::from(point.kib)).sum();
    let most = points.iter().map(|(_, point)| point.objects).max().unwrap_or(0);
    let top = nice(f64::from(most));
    let mut path = String::new();
    for (at, point) in points.iter().filter(|(_, point)| point.objects > 0) {
        let height = HEIGHT * f64::from(point.objects) / top;
        let width = (axis.step() * 0.8).max(1.5);
        let _ = write!(path, "M{:.1} {HEIGHT}v-{height:.1}h{width:.1}v{height:.1}z", axis.place(*at));
    }
    let size = HumanBytes(kib * 1024);
    let summary = format!("Mirrored: {sum} objects, {size} in the last {span}; {most} a minute at most.");
    Chart { summary, top: format!("{} a minute", whole(top)), path }
}

impl Axis {
    /// Round times, with their places.
    fn marks(self) -> Vec<(String, f64)> {
        let every = if self.seconds <= 3600 { 600 } else { (self.seconds / 7200 * 1800).clamp(1800, 3600) };
        let last = self.now.as_second().div_euclid(every);
        let mark = |back: i64| Timestamp::from_second((last - back) * every).ok();
        let marks = (0..=self.seconds / every).rev().filter_map(mark);
        let placed = marks.map(|at| (at.strftime("%H:%M").to_string(), (self.place(at) * 10.0).round() / 10.0));
        placed.filter(|(_, x)| (20.0..WIDTH - 20.0).contains(x)).collect()
    }

    /// Where a time is.
    #[expect(clippy::cast_precision_loss, reason = "seconds of some hours")]
    fn place(self, at: Timestamp) -> f64 {
        let back = seconds_between(at, self.now) as f64 / self.seconds as f64;
        (WIDTH - self.step()) * (1.0 - back).clamp(0.0, 1.0)
    }

    /// How wide a point is.
    #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
    fn step(self) -> f64 {
        WIDTH * STEP as f64 / self.seconds as f64
    }
}

#[expect(clippy::cast_possible_truncation, reason = "below 2^53")]
fn whole(number: f64) -> i64 {
    number as i64
}

/// The next number of 1, 2, 3 or 6 times a power of ten, or of sixty: what an axis may end with.
fn nice(highest: f64) -> f64 {
    let steps = [1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0];
    if let Some(step) = steps.into_iter().find(|step| *step >= highest) {
        return step;
    }
    let hours = highest / 3600.0;
    let power = 10_f64.powf(hours.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * power).find(|step| *step >= hours);
    3600.0 * step.unwrap_or(hours)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::CheckpointRow;
    use crate::server::history::History;
    use crate::status::{Rows, Status};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_770_000_000 + second).unwrap()
    }

    fn status(second: i64, lag: i64, objects: u64) -> Status {
        let row = CheckpointRow {
            source: "acme".into(),
            account: "222222222222".into(),
            objects,
            listed_through: Some(at(second - lag)),
            ..CheckpointRow::default()
        };
        Status::of(Rows { checkpoints: vec![row], ..Rows::default() }, at(second))
    }

    #[test]
    fn the_drawing_says_the_same_as_its_words() {
        let history = History::default();
        for (second, lag, objects) in [(0, 5, 10), (60, 300, 20), (120, 30, 45)] {
            history.look(&status(second, lag, objects));
        }
        let charts = Charts::of(&history.account("acme", "222222222222"), at(130));
        assert_eq!(charts.lag.summary, "Lag: 30 s now, 5 min at most, at 02:41Z.");
        assert_eq!((charts.lag.top.as_str(), charts.lag.path.matches(['M', 'L']).count()), ("5 min", 3));
        assert_eq!(charts.objects.summary, "Mirrored: 35 objects, 0 B in the last 30 minutes; 25 a minute at most.");
        assert_eq!((charts.objects.top.as_str(), charts.objects.path.matches('M').count()), ("30 a minute", 2));
        assert_eq!((charts.span.as_str(), charts.hours.len()), ("30 minutes", 3));
        history.look(&status(5 * 3600, 5, 45));
        let later = Charts::of(&history.all(), at(5 * 3600));
        assert_eq!((later.span.as_str(), later.hours.len()), ("6 h", 6));
    }

    #[test]
    fn nothing_known_draws_nothing_and_a_pause_breaks_the_line() {
        let empty = Charts::of(&Series::default(), at(0));
        assert_eq!((empty.lag.path.as_str(), empty.lag.summary.as_str()), ("", "No lag is known yet."));
        let history = History::default();
        history.look(&status(0, 5, 1));
        history.look(&status(300, 5, 1));
        let path = Charts::of(&history.all(), at(300)).lag.path;
        assert_eq!(path.matches('M').count(), 2, "{path}");
    }

    #[test]
    fn an_axis_ends_with_a_round_number() {
        for (highest, top) in [(0.0, 1.0), (4.0, 5.0), (61.0, 120.0), (3601.0, 7200.0), (90_000.0, 180_000.0)] {
            assert!((nice(highest) - top).abs() < 1e-6, "{highest}: {}", nice(highest));
        }
    }
}
