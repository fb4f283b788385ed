//! What is known of a session, for status.

use crate::clock::Timestamp;
use crate::error::Class;

/// A session as status shows it. There are no secrets in it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SessionState {
    /// The role, or `None` where the base credentials are used as they are.
    pub role_arn: Option<String>,
    /// The session's name.
    pub session_name: Option<String>,
    /// Whose credentials assume the role, once STS said so.
    pub caller_arn: Option<String>,
    /// When the current session began.
    pub obtained: Option<Timestamp>,
    /// When it ends by the server's clock.
    pub expires: Option<Timestamp>,
    /// When it is renewed, or tried again after a failure.
    pub next_renewal: Option<Timestamp>,
    /// How many sessions were obtained.
    pub renewals: u64,
    /// How many attempts have failed since the last success.
    pub failures: u32,
    /// Why the last attempt failed; `None` after a success.
    pub last_error: Option<LastError>,
    /// The caller is itself a role session: sessions last an hour at most.
    pub chained: bool,
    /// A longer session was configured and cut to an hour because the caller is chained.
    pub clamped: bool,
    /// Why the session policy does not narrow as far as the configuration says.
    pub policy_note: Option<String>,
}

/// Why an attempt to renew a session failed.
#[derive(Debug, Clone, PartialEq)]
pub struct LastError {
    /// When.
    pub at: Timestamp,
    /// What can be done about it.
    pub class: Class,
    /// The service's code, or an empty string.
    pub code: String,
    /// The whole story, with the likely mend.
    pub text: String,
}
