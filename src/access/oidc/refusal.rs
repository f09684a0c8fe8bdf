//! What can be wrong with a token of an issuer that is configured. The words hold nothing of the token.

/// Why a token of an outside issuer is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefusal {
    /// Its time is over.
    #[error("the access token has expired: get another one from its issuer")]
    Expired,
    /// Its time has not come.
    #[error("the access token is not valid yet; is the clock right?")]
    NotYetValid,
    /// It never ends.
    #[error("the access token has no usable `exp`")]
    NoEnd,
    /// It is for somebody else.
    #[error("the access token is for another audience: `aud` has to name this gateway")]
    Audience,
    /// It is signed in a way that is not taken, or in another one than its key is for.
    #[error("the access token is signed with an algorithm that is not taken here")]
    Algorithm,
    /// Its key is not one of the issuer's.
    #[error("the access token is signed with a key that its issuer does not publish")]
    UnknownKey,
    /// Nobody can tell which key signed it.
    #[error("the access token does not say which of its issuer's keys signed it (`kid`)")]
    NoKeyId,
    /// It was not made by the issuer, or it was changed.
    #[error("the signature of the access token is not right")]
    Signature,
    /// It does not say whose it is.
    #[error("the access token has no usable claim that tells its user")]
    NoUser,
    /// It is no access token.
    #[error(
        "the access token is not one that can be taken: its form, its `typ` or its `crit` is another one"
    )]
    Form,
    /// It says more than is taken in.
    #[error("the access token is too large")]
    TooLarge,
    /// The issuer's keys are not known, so nobody can tell.
    #[error("the keys of the access token's issuer cannot be had at the moment; try again later")]
    NoKeys,
}

impl TokenRefusal {
    /// 401, and 503 where the token may be good.
    pub(in crate::access) fn status(self) -> u16 {
        if self == Self::NoKeys { 503 } else { 401 }
    }

    /// A short name for programs.
    pub(in crate::access) fn code(self) -> &'static str {
        match self {
            Self::Expired => "expired_token",
            Self::NoKeys => "issuer_unavailable",
            _ => "invalid_token",
        }
    }
}
