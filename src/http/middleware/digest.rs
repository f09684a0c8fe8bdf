//! Checks a body against its `Content-Digest` header (RFC 9530), so that a signed header can vouch for a body.
//!
//! `sha-256` and `sha-512` are checked, both where both are there; other algorithms are ignored, as the RFC says. The body is
//! hashed while it is being read, so nothing is read twice and no stranger's body is awaited: whoever reads to the end gets
//! [`DigestError`] as the last word. Requests that carry no body by their nature are checked before they are answered.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::Response;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use sha2::{Digest, Sha256, Sha512};

use crate::http::error::ApiError;
use crate::http::extract;
use crate::http::state::App;

/// The largest body of a request that has no use for one, in bytes.
const MAX_UNREAD_BYTES: usize = 64 * 1024;

/// The header's name.
const CONTENT_DIGEST: &str = "content-digest";

/// What is wrong with a digest, or the body that does not fit it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::http) enum DigestError {
    /// The header is no dictionary of byte sequences.
    #[error(
        "the header content-digest is not what RFC 9530 describes: send `sha-256=:<base64>:`, with a digest of 32 bytes, or \
         `sha-512=:<base64>:`, with one of 64"
    )]
    Syntax,
    /// The body is another one.
    #[error("the body does not have the {0} digest that the header content-digest tells")]
    Mismatch(&'static str),
}

/// Lets the body of a request with a digest be checked.
pub(in crate::http) async fn check(
    State(app): State<App>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if !request.headers().contains_key(CONTENT_DIGEST) {
        return Ok(next.run(request).await);
    }
    let expected = Expected::read(request.headers())?;
    let reads_no_body = [Method::GET, Method::HEAD, Method::DELETE].contains(request.method());
    let request = request.map(|inner| Body::new(DigestBody { inner, expected: Some(expected) }));
    if !reads_no_body {
        return Ok(next.run(request).await);
    }
    // Handlers of these methods take no look at the body.
    let (parts, body) = request.into_parts();
    // Nobody knows yet who is asking, so it must not take much room.
    let body = extract::read_at_most(&app, &parts.headers, body, MAX_UNREAD_BYTES).await?;
    Ok(next.run(Request::from_parts(parts, Body::from(body))).await)
}

/// The digests a body must have, beside what has been read of it so far.
#[derive(Default)]
struct Expected {
    sha256: Option<(Sha256, Vec<Vec<u8>>)>,
    sha512: Option<(Sha512, Vec<Vec<u8>>)>,
}

impl Expected {
    /// Reads all lines of the header: a dictionary of byte sequences (RFC 8941). Of a key that comes twice, both are
    /// checked rather than the last, so that nobody who took the first is misled.
    fn read(headers: &HeaderMap) -> Result<Self, DigestError> {
        let mut expected = Self::default();
        for line in headers.get_all(CONTENT_DIGEST) {
            let line = line.to_str().map_err(|_| DigestError::Syntax)?;
            for member in line.split(',') {
                let (key, value) =
                    member.trim_matches([' ', '\t']).split_once('=').ok_or(DigestError::Syntax)?;
                let is_key = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-.*".contains(c);
                if key.is_empty() || !key.chars().all(is_key) {
                    return Err(DigestError::Syntax);
                }
                match key {
                    "sha-256" => {
                        expected.sha256.get_or_insert_default().1.push(byte_sequence(value, 32)?);
                    }
                    "sha-512" => {
                        expected.sha512.get_or_insert_default().1.push(byte_sequence(value, 64)?);
                    }
                    _ => {}
                }
            }
        }
        Ok(expected)
    }

    fn update(&mut self, data: &[u8]) {
        if let Some((hash, _)) = &mut self.sha256 {
            hash.update(data);
        }
        if let Some((hash, _)) = &mut self.sha512 {
            hash.update(data);
        }
    }

    fn verify(self) -> Result<(), DigestError> {
        if let Some((hash, wanted)) = self.sha256 {
            all_equal(&hash.finalize(), &wanted, "sha-256")?;
        }
        if let Some((hash, wanted)) = self.sha512 {
            all_equal(&hash.finalize(), &wanted, "sha-512")?;
        }
        Ok(())
    }
}

fn all_equal(found: &[u8], wanted: &[Vec<u8>], name: &'static str) -> Result<(), DigestError> {
    if wanted.iter().all(|wanted| wanted == found) { Ok(()) } else { Err(DigestError::Mismatch(name)) }
}

/// `:<base64>:`, with parameters perhaps, of so many bytes.
fn byte_sequence(value: &str, bytes: usize) -> Result<Vec<u8>, DigestError> {
    let inner = value.split(';').next().and_then(|item| item.strip_prefix(':')?.strip_suffix(':'));
    let decoded = inner.and_then(|base64| BASE64_STANDARD.decode(base64).ok());
    decoded.filter(|digest| digest.len() == bytes).ok_or(DigestError::Syntax)
}

/// A body that ends with an error where it is not the one that was promised.
struct DigestBody {
    inner: Body,
    /// `None` once it has been verified.
    expected: Option<Expected>,
}

impl HttpBody for DigestBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.inner).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let (Some(expected), Some(data)) = (&mut this.expected, frame.data_ref()) {
                    expected.update(data);
                }
            }
            Poll::Ready(None) => {
                if let Some(Err(error)) = this.expected.take().map(Expected::verify) {
                    return Poll::Ready(Some(Err(axum::Error::new(error))));
                }
            }
            _ => {}
        }
        polled
    }

    /// Not before the digest has been verified, even where nothing more will come.
    fn is_end_stream(&self) -> bool {
        self.expected.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Result<Expected, DigestError> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(CONTENT_DIGEST, line.parse().unwrap());
        }
        Expected::read(&headers)
    }

    /// What RFC 9530 gives as the digests of `{"hello": "world"}`.
    const BODY: &[u8] = b"{\"hello\": \"world\"}";
    const SHA256: &str = "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:";
    const SHA512: &str =
        "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:";

    fn verify(lines: &[&str], body: &[u8]) -> Result<(), DigestError> {
        let mut expected = read(lines)?;
        let (start, end) = body.split_at(body.len() / 2);
        expected.update(start);
        expected.update(end);
        expected.verify()
    }

    #[test]
    fn the_examples_of_the_rfc_fit() {
        for lines in [
            vec![SHA256],
            vec![SHA512],
            vec![SHA256, SHA512],
            vec!["sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:;a=1,\tmd5=:AA==:"],
            vec!["unixsum=:AA==:"],
        ] {
            assert_eq!(verify(&lines, BODY), Ok(()), "{lines:?}");
        }
        assert_eq!(verify(&[SHA256], b"{}"), Err(DigestError::Mismatch("sha-256")));
        assert_eq!(verify(&[SHA512], b"{}"), Err(DigestError::Mismatch("sha-512")));
        // Whichever of two a policy has looked at, it must fit.
        let other = format!("sha-256=:{}:", BASE64_STANDARD.encode([0; 32]));
        for lines in [[SHA256, &other], [&other, SHA256]] {
            assert_eq!(verify(&lines, BODY), Err(DigestError::Mismatch("sha-256")));
        }
    }

    #[test]
    fn what_is_no_digest_is_refused() {
        for line in
            ["", "sha-256", "sha-256=X48=", "sha-256=:X48=:", "sha-256=:?:", "SHA-256=:AA==:", ",", "a=:b:,"]
        {
            assert_eq!(read(&[line]).err(), Some(DigestError::Syntax), "{line:?}");
        }
    }
}
