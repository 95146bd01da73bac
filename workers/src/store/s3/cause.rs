//! Why a request to an S3 service failed, and the fault that it makes. The code in the answer's body decides
//! before its status: services put the same code under different statuses.

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use longshore_schema::fault::{Fault, chain, code};
use std::error::Error;

/// What went wrong, as far as it matters to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// The condition of a put wasn't met: the key exists.
    Exists,
    /// Another request at the same key was under way.
    Conflict,
    NoKey,
    NoBucket,
    Denied,
    Full,
    /// The body that arrived isn't the one that was signed.
    Damaged,
    /// No such bytes: the object is shorter.
    Short,
    /// Slow, overloaded, away, or broke off.
    Away,
    /// The request couldn't be made; it is ours.
    Ours,
    /// Anything else that was answered.
    Odd,
}

pub(super) fn cause<E: ProvideErrorMetadata>(error: &SdkError<E>) -> Cause {
    match error {
        SdkError::ConstructionFailure(_) => Cause::Ours,
        SdkError::TimeoutError(_) | SdkError::DispatchFailure(_) => Cause::Away,
        SdkError::ResponseError(answer) => of_status(answer.raw().status().as_u16(), false),
        SdkError::ServiceError(answer) => {
            let status = answer.raw().status().as_u16();
            answer.err().code().and_then(of_code).unwrap_or_else(|| of_status(status, answer.err().code().is_none()))
        }
        // The SDK's enum may grow.
        _ => Cause::Away,
    }
}

fn of_code(code: &str) -> Option<Cause> {
    Some(match code {
        "PreconditionFailed" => Cause::Exists,
        "ConditionalRequestConflict" | "ConcurrentModification" | "OperationAborted" => Cause::Conflict,
        "NoSuchKey" | "NotFound" => Cause::NoKey,
        "InvalidBucketName" | "NoSuchBucket" | "PermanentRedirect" => Cause::NoBucket,
        "AccessDenied"
        | "AccountProblem"
        | "AllAccessDisabled"
        | "AuthorizationHeaderMalformed"
        | "ExpiredToken"
        | "InvalidAccessKeyId"
        | "InvalidSecurity"
        | "InvalidToken"
        | "NotSignedUp"
        | "SignatureDoesNotMatch" => Cause::Denied,
        "InsufficientStorage" | "QuotaExceeded" | "StorageFull" | "XMinioAdminBucketQuotaExceeded" | "XMinioStorageFull" => {
            Cause::Full
        }
        "BadDigest" | "IncompleteBody" | "InvalidDigest" | "XAmzContentChecksumMismatch" | "XAmzContentSHA256Mismatch" => {
            Cause::Damaged
        }
        "InvalidRange" => Cause::Short,
        "InternalError"
        | "RequestTimeTooSkewed"
        | "RequestTimeout"
        | "ServiceUnavailable"
        | "SlowDown"
        | "Throttling"
        | "XMinioServerNotInitialized" => Cause::Away,
        "NotImplemented" => Cause::Odd,
        _ => return None,
    })
}

fn of_status(status: u16, without_code: bool) -> Cause {
    match status {
        401 | 403 => Cause::Denied,
        // With a code that isn't NoSuchKey it is about something else, an upload for example.
        404 if without_code => Cause::NoKey,
        409 => Cause::Conflict,
        412 => Cause::Exists,
        416 => Cause::Short,
        507 => Cause::Full,
        408 | 425 | 429 | 500..=599 => Cause::Away,
        _ => Cause::Odd,
    }
}

/// The fault of a cause, with what was being done in front.
pub(super) fn fault<E>(doing: String, cause: Cause, error: &SdkError<E>) -> Fault
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let message = format!("{doing}: {}", what_it_said(error));
    let fault = match cause {
        Cause::NoKey | Cause::Short => Fault::permanent(code::OBJECT_MISSING, message),
        Cause::NoBucket => Fault::permanent(code::STORE_MISSING, message),
        Cause::Denied => Fault::permanent(code::STORE_DENIED, message),
        Cause::Full => Fault::transient(code::STORE_FULL, message),
        Cause::Away | Cause::Conflict | Cause::Damaged => Fault::transient(code::STORE_UNAVAILABLE, message),
        Cause::Ours => Fault::permanent(code::INTERNAL, message),
        Cause::Exists | Cause::Odd => Fault::permanent(code::STORE_MISBEHAVED, message),
    };
    let wait = error.raw_response().and_then(|it| it.headers().get("retry-after")).and_then(|it| it.parse::<u32>().ok());
    match wait {
        Some(seconds) if fault.is_transient() => fault.retry_after(seconds.min(3600)),
        _ => fault,
    }
}

fn what_it_said<E: ProvideErrorMetadata + Error + 'static>(error: &SdkError<E>) -> String {
    match error {
        SdkError::ServiceError(answer) => {
            let status = answer.raw().status().as_u16();
            let said = [answer.err().code(), answer.err().message()].into_iter().flatten().map(plain);
            said.fold(format!("the store answered {status}"), |text, part| format!("{text} {part}"))
        }
        SdkError::ResponseError(answer) => {
            format!("the store answered {} with something unreadable", answer.raw().status().as_u16())
        }
        _ => plain(&chain(error)),
    }
}

/// Somebody else's text, fit for a message of ours.
fn plain(text: &str) -> String {
    text.chars().map(|it| if it.is_control() { ' ' } else { it }).take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_decides_before_the_status() {
        assert_eq!(of_code("QuotaExceeded"), Some(Cause::Full));
        assert_eq!(of_code("RequestTimeTooSkewed"), Some(Cause::Away));
        assert_eq!(of_code("SomethingElse"), None);
    }

    #[test]
    fn every_status_without_a_known_code_has_its_cause() {
        for (status, want) in [
            (301, Cause::Odd),
            (400, Cause::Odd),
            (401, Cause::Denied),
            (403, Cause::Denied),
            (404, Cause::NoKey),
            (409, Cause::Conflict),
            (412, Cause::Exists),
            (416, Cause::Short),
            (429, Cause::Away),
            (500, Cause::Away),
            (503, Cause::Away),
            (507, Cause::Full),
        ] {
            assert_eq!(of_status(status, true), want, "{status}");
        }
        assert_eq!(of_status(404, false), Cause::Odd);
    }

    #[test]
    fn what_a_store_says_is_made_fit_to_print() {
        assert_eq!(plain("a\n\u{1b}[31mb"), "a  [31mb");
        assert_eq!(plain(&"x".repeat(1000)).len(), 300);
    }
}
