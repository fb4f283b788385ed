//! What can have become of a copy that was whole once.

/// Kinds of the alarms that damage raises.
pub const ALARMS: [&str; 2] = ["rotten", "lost"];

/// What an alarm of damage is about: an object's first version by its key, a later one by key and version.
pub fn subject(key: &str, version: Option<&str>) -> String {
    version.map_or_else(|| key.to_owned(), |version| format!("{key} (version {version})"))
}

/// What is wrong with a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// Other bytes stand in its place, or they cannot be read.
    Rotten,
    /// Nothing stands in its place.
    Lost,
    /// Its metadata are not those that were kept beside it.
    RottenMetadata,
    /// Its metadata are gone.
    LostMetadata,
}

impl Damage {
    const ALL: [Self; 4] = [Self::Rotten, Self::Lost, Self::RottenMetadata, Self::LostMetadata];

    /// The code under which it waits to be fetched again.
    pub fn code(self) -> &'static str {
        match self {
            Self::Rotten => "RottenCopy",
            Self::Lost => "LostCopy",
            Self::RottenMetadata => "RottenMetadata",
            Self::LostMetadata => "LostMetadata",
        }
    }

    /// The damage of a code, where it is one.
    pub fn of_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|damage| damage.code() == code)
    }

    /// The kind of its alarm.
    pub fn alarm(self) -> &'static str {
        match self {
            Self::Rotten | Self::RottenMetadata => ALARMS[0],
            Self::Lost | Self::LostMetadata => ALARMS[1],
        }
    }

    /// The metadata are meant, not the object.
    pub fn is_of_metadata(self) -> bool {
        matches!(self, Self::RottenMetadata | Self::LostMetadata)
    }
}
