//! Codes of problems: stable words that clients decide by.

use hyper::StatusCode;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $status:ident, $title:literal;)+) => {
        /// What went wrong, in the stable words of the HTTP contract.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $($(#[$doc])* #[doc = concat!("`", $code, "`: ", $title, ".")] $variant,)+
        }

        impl Code {
            /// Every code, in the order of the contract.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The stable word.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code),+ }
            }

            /// The HTTP status that always comes with it.
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status),+ }
            }

            /// A short sentence for people, the same for every occurrence.
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
    InvalidRequest = "invalid_request", BAD_REQUEST, "The request is not valid";
    Unauthorized = "unauthorized", UNAUTHORIZED, "Credentials are missing or not valid";
    NotFound = "not_found", NOT_FOUND, "There is nothing here";
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, "The method is not allowed here";
    Forbidden = "forbidden", FORBIDDEN, "The caller may not do this";
    Denied = "denied", FORBIDDEN, "The request was denied";
    ChallengeRequired = "challenge_required", FORBIDDEN, "A challenge has to be solved first";
    TicketInvalid = "ticket_invalid", FORBIDDEN, "The ticket is not valid";
    TicketExpired = "ticket_expired", FORBIDDEN, "The ticket has expired";
    Timeout = "timeout", REQUEST_TIMEOUT, "The request came too slowly";
    TooLarge = "too_large", PAYLOAD_TOO_LARGE, "The body is too large";
    UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, "The body has to be JSON";
    HeadTooLarge = "head_too_large", REQUEST_HEADER_FIELDS_TOO_LARGE, "The head of the request is too large";
    SoldOut = "sold_out", CONFLICT, "Sold out";
    LimitReached = "limit_reached", CONFLICT, "A purchase limit is reached";
    NotStarted = "not_started", CONFLICT, "The sale has not started";
    Ended = "ended", CONFLICT, "The sale has ended";
    Paused = "paused", CONFLICT, "The sale is paused";
    TicketUsed = "ticket_used", CONFLICT, "The ticket has made an order already";
    NotPersisted = "not_persisted", CONFLICT, "The order is still queued";
    WrongState = "wrong_state", CONFLICT, "The state does not allow this";
    InsufficientAvailable = "insufficient_available", CONFLICT, "Fewer units are available than are to be taken away";
    VersionConflict = "version_conflict", PRECONDITION_FAILED, "Somebody else changed it meanwhile";
    KeyReused = "key_reused", UNPROCESSABLE_ENTITY, "The idempotency key belongs to another request";
    RateLimited = "rate_limited", TOO_MANY_REQUESTS, "Too many requests";
    Internal = "internal", INTERNAL_SERVER_ERROR, "The server failed";
    Busy = "busy", SERVICE_UNAVAILABLE, "The server is busy";
    NotReady = "not_ready", SERVICE_UNAVAILABLE, "The server is not ready";
    Unavailable = "unavailable", SERVICE_UNAVAILABLE, "Something that the server needs does not answer";
}
