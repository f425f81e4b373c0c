//! Renewal of a generator's lease.

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use super::{Generator, HolderId, LeaseError, WorkerLease};
use crate::domain::Invalid;

/// Renews the lease of `generator` until `stop` completes, then closes the generator and releases
/// the worker id. Spawn this on a background runtime.
///
/// A lease is renewed after a third of its term, or when it has run out because the clock was set
/// forward or the process was suspended. A failed renewal is retried after a tenth of the term. The
/// generator stops when the lease ends, and resumes with the next successful renewal. If the clock
/// was set back further than ids may be ahead of it, the generator goes on with another worker id,
/// and the former one is released.
///
/// # Errors
/// [`LeaseError::Lost`] if the lease is no longer held; the generator works until it ends. Other
/// errors of the release: the worker id is free, but its next holder starts where the lease ended.
pub async fn renew_lease(
    generator: Arc<Generator>,
    leases: Arc<dyn WorkerLease>,
    stop: impl Future<Output = ()> + Send,
) -> Result<(), LeaseError> {
    let mut stop = pin!(stop);
    let least = generator.term() / 10;
    let mut pause = generator.term() / 3;
    let mut may_replace = true;
    let mut asking = None;
    loop {
        // Always pauses for `least`, so that refused ids and failing renewals make no busy loop. A
        // clock that was set back is no reason to wait, unless no other worker id can be had.
        let pauses = async {
            tokio::time::sleep(least).await;
            tokio::select! {
                () = generator.stopped() => {}
                () = tokio::time::sleep(pause.saturating_sub(least)) => {}
            }
        };
        tokio::select! {
            biased;
            () = &mut stop => break,
            () = generator.was_set_back(), if may_replace => {
                may_replace = replace(&generator, &*leases, &mut asking).await;
                continue;
            }
            () = pauses => {}
        }
        may_replace = true;
        pause = renew(&generator, &*leases).await?;
    }
    let lease = generator.lease();
    let used_until = generator.close();
    leases.release(lease, used_until).await
}

/// Goes on with another worker id. Returns whether that succeeded. `asking` is who has asked for one
/// without a certain answer, and asks again.
async fn replace(generator: &Generator, leases: &dyn WorkerLease, asking: &mut Option<HolderId>) -> bool {
    let failed = |error: &dyn std::fmt::Display| {
        tracing::warn!(%error, "the clock was set back and no other worker id can be had; ids wait for the clock");
        false
    };
    let holder = match asking.map_or_else(HolderId::random, Ok) {
        Ok(holder) => *asking.insert(holder),
        Err(error) => return failed(&error),
    };
    let lease = match leases.acquire(holder, generator.now(), generator.lease_end()).await {
        Ok(lease) => lease,
        Err(error) => return failed(&error),
    };
    *asking = None;
    let replaced = if lease.from > generator.latest() {
        Err(Invalid::new("worker", "every free worker id was used at a later time"))
    } else {
        generator.replace(lease)
    };
    match replaced {
        Ok((former, used_until)) => {
            tracing::warn!(
                former = former.worker,
                worker = lease.worker,
                "the clock was set back; another worker id makes the ids from now on"
            );
            if let Err(error) = leases.release(former, used_until).await {
                tracing::warn!(worker = former.worker, %error, "the former worker id was not released");
            }
            true
        }
        Err(error) => {
            // Nothing of it was used.
            let _ = leases.release(lease, lease.from).await;
            failed(&error)
        }
    }
}

/// Renews once; returns the pause before the next renewal.
async fn renew(generator: &Generator, leases: &dyn WorkerLease) -> Result<Duration, LeaseError> {
    match leases.renew(generator.lease(), generator.lease_end()).await {
        Ok(renewed) => {
            generator.extend(renewed);
            Ok(generator.term() / 3)
        }
        Err(error @ LeaseError::Lost { .. }) => Err(error),
        Err(error) => {
            let retry = generator.term() / 10;
            tracing::warn!(
                worker = generator.worker(),
                lease_ends_ms = generator.lease().until.as_millis(),
                retry_ms = u64::try_from(retry.as_millis()).unwrap_or(u64::MAX),
                %error,
                "the worker id's lease could not be renewed; no ids are generated after it ends"
            );
            Ok(retry)
        }
    }
}
