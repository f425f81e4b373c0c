//! Problem codes: stable identifiers for clients.

use hyper::StatusCode;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $status:ident, $title:literal;)+) => {
        /// A problem code of the HTTP contract.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $($(#[$doc])* #[doc = concat!("`", $code, "`: ", $title, ".")] $variant,)+
        }

        impl Code {
            /// Every code, in the order of the contract.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Returns the stable identifier.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code),+ }
            }

            /// Returns its HTTP status.
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status),+ }
            }

            /// Returns a short description for people, the same for every occurrence.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title),+ }
            }

            pub(super) const fn kind(self) -> &'static str {
                match self { $(Self::$variant => concat!("urn:problem-type:flashsale:", $code)),+ }
            }
        }
    };
}

codes! {
    InvalidRequest = "invalid_request", BAD_REQUEST, "Invalid request";
    Unauthorized = "unauthorized", UNAUTHORIZED, "Missing or invalid credentials";
    NotFound = "not_found", NOT_FOUND, "Not found";
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, "Method not allowed";
    Forbidden = "forbidden", FORBIDDEN, "The caller lacks permission";
    Denied = "denied", FORBIDDEN, "The request was denied";
    ChallengeRequired = "challenge_required", FORBIDDEN, "A challenge must be solved first";
    TicketInvalid = "ticket_invalid", FORBIDDEN, "The ticket is not valid";
    TicketExpired = "ticket_expired", FORBIDDEN, "The ticket has expired";
    Timeout = "timeout", REQUEST_TIMEOUT, "The request took too long to arrive";
    TooLarge = "too_large", PAYLOAD_TOO_LARGE, "The request body is too large";
    UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, "The request body must be JSON";
    HeadTooLarge = "head_too_large", REQUEST_HEADER_FIELDS_TOO_LARGE, "The request head is too large";
    SoldOut = "sold_out", CONFLICT, "Sold out";
    LimitReached = "limit_reached", CONFLICT, "Purchase limit reached";
    NotStarted = "not_started", CONFLICT, "The sale has not started";
    Ended = "ended", CONFLICT, "The sale has ended";
    Paused = "paused", CONFLICT, "The sale is paused";
    TicketUsed = "ticket_used", CONFLICT, "The ticket has already been used";
    NotPersisted = "not_persisted", CONFLICT, "The order is still queued";
    WrongState = "wrong_state", CONFLICT, "Not possible in the current state";
    InsufficientAvailable = "insufficient_available", CONFLICT, "Not enough units are available";
    VersionConflict = "version_conflict", PRECONDITION_FAILED, "It was changed in the meantime";
    KeyReused = "key_reused", UNPROCESSABLE_ENTITY, "The idempotency key was used for another request";
    RateLimited = "rate_limited", TOO_MANY_REQUESTS, "Too many requests";
    Internal = "internal", INTERNAL_SERVER_ERROR, "Internal server error";
    Busy = "busy", SERVICE_UNAVAILABLE, "The server is busy";
    NotReady = "not_ready", SERVICE_UNAVAILABLE, "The server is not ready";
    Unavailable = "unavailable", SERVICE_UNAVAILABLE, "A required service is unavailable";
}
