//! Renewal of a worker's lease ahead of its end.

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use super::{Generator, LeaseError, WorkerLease};

/// Keeps the lease of `generator` until `stop` is done, then closes the generator and gives the worker id back.
///
/// A server spawns this on its background runtime. The lease is renewed after a third of its term, and as soon as the generator has met its
/// end (the clock was set forward, the process was suspended). A renewal that fails is repeated after a tenth of the term; if all fail,
/// the generator stops by itself when the lease ends, and goes on with the next renewal that succeeds.
///
/// # Errors
/// [`LeaseError::Lost`] if the lease is held by nobody or somebody else: the generator ends with the lease. Other
/// errors only of the release: the worker id is then free, but starts where the lease would have ended.
pub async fn keep(
    generator: Arc<Generator>,
    leases: Arc<dyn WorkerLease>,
    stop: impl Future<Output = ()> + Send,
) -> Result<(), LeaseError> {
    let mut stop = pin!(stop);
    let least = generator.term() / 10;
    let mut pause = generator.term() / 3;
    loop {
        // The shortest pause comes first, so that refused ids do not make a busy loop of a renewal that does not help.
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
            () = pauses => {}
        }
        pause = renew(&generator, &*leases).await?;
    }
    let lease = generator.lease();
    let used_until = generator.close();
    leases.release(lease, used_until).await
}

/// Renews once and says when to do so again.
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
                "the lease of the worker id was not renewed; ids stop when it ends"
            );
            Ok(retry)
        }
    }
}
