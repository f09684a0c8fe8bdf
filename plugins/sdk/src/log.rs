//! The gateway's log.
//!
//! ```
//! use witgate_plugin::log;
//!
//! let word = "budget";
//! log::info!("found a word");
//! log::warn!(word = word, count = 3, "found {word} too often");
//! ```
//!
//! Values in front of the message become fields of the log line. Long lines are cut by the gateway, and too many are
//! dropped and counted. Messages should never carry secrets or what users wrote.

pub use crate::bindings::response::witgate::plugin::log::Level;
pub use crate::{
    __log_debug as debug, __log_error as error, __log_info as info, __log_trace as trace, __log_warn as warn,
};

/// Writes one line with named values. The macros of this module are shorter.
pub fn write(level: Level, message: &str, fields: &[(String, String)]) {
    #[cfg(target_arch = "wasm32")]
    crate::bindings::response::witgate::plugin::log::write(level, message, fields);
    #[cfg(not(target_arch = "wasm32"))]
    crate::testing::with(|host| host.log.push((level, message.to_owned(), fields.to_vec())));
}

/// Writes a line at a level: `log!(LEVEL, key = value, ..., "message {}", arguments)`.
#[doc(hidden)]
#[macro_export]
macro_rules! __log {
    ($level:ident, $($key:ident = $value:expr,)* $message:literal $(, $($arguments:tt)*)?) => {
        $crate::log::write(
            $crate::log::Level::$level,
            &::std::format!($message $(, $($arguments)*)?),
            &[$((::std::string::String::from(::std::stringify!($key)), ::std::string::ToString::to_string(&$value))),*],
        )
    };
}

/// Logs single steps.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_trace { ($($line:tt)+) => { $crate::__log!(Trace, $($line)+) }; }

/// Logs what helps to find faults.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_debug { ($($line:tt)+) => { $crate::__log!(Debug, $($line)+) }; }

/// Logs what is worth knowing.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_info { ($($line:tt)+) => { $crate::__log!(Info, $($line)+) }; }

/// Logs that something is not as it should be.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_warn { ($($line:tt)+) => { $crate::__log!(Warn, $($line)+) }; }

/// Logs that something failed.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_error { ($($line:tt)+) => { $crate::__log!(Error, $($line)+) }; }
