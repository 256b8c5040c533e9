//! Who asks, and whether this request is really theirs.

pub mod client_ip;
pub mod cookie;
pub mod guard;
pub mod host;
pub mod identifier;
pub mod login;
pub mod password;
pub mod rate;
pub mod sign_in;
pub mod signed_in;
