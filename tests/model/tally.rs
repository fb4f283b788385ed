//! What happened in histories, by class: a class that never happens is not tested.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use trailsync::error::Error;
use trailsync::source::ListPage;

use super::history::{DAY, HOUR, MINUTE, Name, YEAR};

/// Every class that histories must have.
const CLASSES: [&str; 46] = [
    "fresh",
    "late by minutes",
    "late by hours",
    "late by days",
    "late by 30 days",
    "late by months",
    "named ahead",
    "named far ahead",
    "odd name",
    "odd name in a day",
    "same minute",
    "out of order",
    "broken or empty",
    "replaced",
    "another tag",
    "removed",
    "put back",
    "expired",
    "refused",
    "archived",
    "key withheld for a day",
    "changed in the middle of a turn",
    "truncated page",
    "page without a key",
    "listing failed",
    "fetch failed",
    "body damaged",
    "outage of 1 day",
    "outage of 3 days",
    "outage of 40 days",
    "outage of 100 days",
    "our clock hours off",
    "our clock ten years off",
    "service's clock hours off",
    "service's clock ten years off",
    "restarted",
    "killed",
    "stopped",
    "power cut",
    "not staged",
    "not published",
    "disk full",
    "quarantined",
    "sealed",
    "sealed again",
    "written whole again",
];

/// Counts by class; clones count together.
#[derive(Clone, Default)]
pub struct Tally(Arc<Mutex<BTreeMap<&'static str, u64>>>);

impl Tally {
    pub fn count(&self, class: &'static str) {
        self.add(class, 1);
    }

    pub fn add(&self, class: &'static str, times: u64) {
        assert!(CLASSES.contains(&class), "no such class: {class}");
        *self.counts().entry(class).or_default() += times;
    }

    pub fn add_all(&self, other: &Tally) {
        let other = other.counts().clone();
        other.into_iter().for_each(|(class, times)| self.add(class, times));
    }

    /// A delivery under this name.
    pub fn named(&self, name: &Name) {
        self.count(match name {
            Name::Odd(_) => "odd name",
            Name::InDay(..) => "odd name in a day",
            Name::Dated(age) => lateness(*age),
        });
    }

    /// A listing was answered.
    pub fn add_page(&self, page: &Result<ListPage, Error>) {
        match page {
            Err(_) => self.count("listing failed"),
            Ok(page) if page.next.is_none() => {}
            Ok(page) if page.objects.is_empty() && page.prefixes.is_empty() => self.count("page without a key"),
            Ok(_) => self.count("truncated page"),
        }
    }

    /// A turn begins so long after the one before.
    pub fn waited(&self, seconds: i64) {
        for (days, class) in
            [(1, "outage of 1 day"), (3, "outage of 3 days"), (40, "outage of 40 days"), (100, "outage of 100 days")]
        {
            if seconds >= days * DAY {
                self.count(class);
            }
        }
    }

    /// A turn begins while clocks are so far off.
    pub fn off(&self, ours: i64, service: i64) {
        let class = |off: i64, hours, years| match off.abs() {
            HOUR..DAY => Some(hours),
            off if off >= 9 * YEAR => Some(years),
            _ => None,
        };
        let ours = class(ours, "our clock hours off", "our clock ten years off");
        let service = class(service, "service's clock hours off", "service's clock ten years off");
        ours.into_iter().chain(service).for_each(|class| self.count(class));
    }

    /// Classes that never happened.
    pub fn missing(&self) -> Vec<&'static str> {
        let counts = self.counts();
        CLASSES.into_iter().filter(|class| !counts.contains_key(class)).collect()
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<&'static str, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lateness(age: i64) -> &'static str {
    match age {
        ..0 if age < -25 * HOUR => "named far ahead",
        ..0 => "named ahead",
        0.. if age < 20 * MINUTE => "fresh",
        0.. if age < 2 * HOUR => "late by minutes",
        0.. if age < 26 * HOUR => "late by hours",
        0.. if age < 26 * DAY => "late by days",
        0.. if age < 35 * DAY => "late by 30 days",
        0.. => "late by months",
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.counts();
        let shown: Vec<_> =
            CLASSES.iter().map(|class| format!("{class} {}", counts.get(class).unwrap_or(&0))).collect();
        f.write_str(&shown.join(", "))
    }
}
