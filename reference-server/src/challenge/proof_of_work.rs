//! Proof of work: scrypt (RFC 7914) in ALTCHA's protocol, version 2.
//!
//! scrypt is memory-hard, so fast hashing hardware gains little. The difficulty is still low,
//! because a phone must be able to solve it before the sale starts. It is one signal of several.

use altcha::{ChallengeParameters, HmacAlgorithm, Solution, VerifySolutionOptions};
use flashsale_core::admission::Challenge;
use serde::{Deserialize, Serialize};

const ALGORITHM: &str = "SCRYPT";
const KEY_LENGTH: usize = 32;
const SALT_CONTEXT: &str = "flashsale server v1: salt of a proof of work";

/// How hard a proof of work is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difficulty {
    /// N of scrypt, a power of two. An attempt needs 128 · N · r bytes.
    pub cost: u32,
    /// r of scrypt.
    pub memory_cost: u32,
    /// How many leading hexadecimal digits of the derived key must be zero. The average number of
    /// attempts is 16 to this power.
    pub digits: u8,
}

/// A proof of work to solve: find the smallest `counter` from 0 for which `key_length` bytes of
/// `scrypt(nonce ‖ counter as 4 bytes big-endian, salt, N = cost, r = memory_cost, p =
/// parallelism)` start with the hexadecimal digits `key_prefix`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Work {
    algorithm: &'static str,
    cost: u32,
    memory_cost: u32,
    parallelism: u32,
    key_length: usize,
    key_prefix: String,
    /// 16 bytes in hexadecimal.
    nonce: String,
    /// 16 bytes in hexadecimal.
    salt: String,
}

/// A solution.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Found {
    /// The counter.
    pub counter: u32,
    /// The derived key, 64 hexadecimal digits in lower case.
    pub derived_key: String,
}

impl Work {
    /// Derives the work from a challenge. It is deterministic, so nothing has to be stored.
    pub fn of(challenge: &Challenge, difficulty: Difficulty) -> Self {
        let salt = blake3::derive_key(SALT_CONTEXT, &challenge.seed.to_be_bytes());
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Self {
            algorithm: ALGORITHM,
            cost: difficulty.cost,
            memory_cost: difficulty.memory_cost,
            parallelism: 1,
            key_length: KEY_LENGTH,
            key_prefix: "0".repeat(difficulty.digits.into()),
            nonce: hex(&challenge.seed.to_be_bytes()),
            salt: hex(&salt[..16]),
        }
    }

    /// Verifies a solution. This costs one attempt, milliseconds of CPU time.
    pub fn is_done(&self, found: &Found) -> bool {
        let is_key = found.derived_key.len() == 2 * KEY_LENGTH
            && found.derived_key.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !is_key || !found.derived_key.starts_with(&self.key_prefix) {
            return false;
        }
        // The MAC of the challenge already authenticates it; altcha requires a signature as well.
        let secret = "not a secret: the challenge is authenticated";
        let signed =
            altcha::sign_challenge(&HmacAlgorithm::Sha256, &mut self.parameters(), None, secret, None);
        let solution =
            Solution { counter: found.counter, derived_key: found.derived_key.clone(), time: None };
        let verified = signed.and_then(|challenge| {
            altcha::verify_solution(VerifySolutionOptions::new(&challenge, &solution, secret))
        });
        match verified {
            Ok(result) => result.verified,
            Err(error) => {
                tracing::error!(%error, "a proof of work could not be verified");
                false
            }
        }
    }

    fn parameters(&self) -> ChallengeParameters {
        ChallengeParameters {
            algorithm: self.algorithm.to_owned(),
            cost: self.cost,
            data: None,
            expires_at: None,
            key_length: self.key_length,
            key_prefix: self.key_prefix.clone(),
            key_signature: None,
            memory_cost: Some(self.memory_cost),
            nonce: self.nonce.clone(),
            parallelism: Some(self.parallelism),
            salt: self.salt.clone(),
        }
    }

    /// Solves the work, as a client would.
    ///
    /// # Errors
    /// If scrypt does not accept the parameters, or after 60 s without a solution.
    pub fn solve(&self) -> Result<Found, String> {
        let challenge = altcha::Challenge { parameters: self.parameters(), signature: None };
        let mut options = altcha::SolveChallengeOptions::new(&challenge);
        options.timeout_ms = 60_000;
        let solution = altcha::solve_challenge(options).map_err(|error| error.to_string())?;
        let Solution { counter, derived_key, .. } = solution.ok_or("no solution within 60 s")?;
        Ok(Found { counter, derived_key })
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use flashsale_core::{
        admission::{ChallengeKeys, Exercise},
        domain::{ActivityId, SkuId, Timestamp, UserId},
    };

    use super::*;

    const EASY: Difficulty = Difficulty { cost: 64, memory_cost: 8, digits: 1 };

    fn challenge() -> Challenge {
        let keys = ChallengeKeys::new([(1, [1; 32])]).unwrap();
        let (activity, sku) = (ActivityId::new(1).unwrap(), SkuId::new(2).unwrap());
        let user = UserId::new(3).unwrap();
        keys.issue(activity, sku, user, Exercise::ProofOfWork, Timestamp::MAX).unwrap().challenge
    }

    #[test]
    fn only_a_correct_solution_is_accepted() {
        let challenge = challenge();
        let work = Work::of(&challenge, EASY);
        assert_eq!(work, Work::of(&challenge, EASY));
        let found = work.solve().unwrap();
        assert!(work.is_done(&found));
        let zeros = Found { counter: found.counter, derived_key: "0".repeat(64) };
        assert!(!work.is_done(&zeros), "the prefix alone is not enough");
        assert!(!work.is_done(&Found { counter: found.counter + 1, ..found.clone() }));
        assert!(!work.is_done(&Found { derived_key: found.derived_key.to_uppercase(), ..found.clone() }));
        for bad in ["", "00", "zz", &found.derived_key[2..], &format!("{}00", found.derived_key)] {
            assert!(!work.is_done(&Found { counter: found.counter, derived_key: bad.to_owned() }), "{bad}");
        }
        assert!(!Work::of(&self::challenge(), EASY).is_done(&found), "of another challenge");
        assert!(!Work::of(&challenge, Difficulty { cost: 128, ..EASY }).is_done(&found));
    }

    #[test]
    fn a_key_without_the_zeros_is_not_enough() {
        // A genuine key of another counter: correct, but without the required work.
        let work = Work::of(&challenge(), Difficulty { digits: 0, ..EASY });
        let easy = work.solve().unwrap();
        assert_eq!(easy.counter, 0);
        assert!(work.is_done(&easy));
        if !easy.derived_key.starts_with("000") {
            let hard = Work { key_prefix: "000".to_owned(), ..work };
            assert!(!hard.is_done(&easy));
        }
    }

    /// Runs the solver of the pages in Node.js, if installed. The browser tests run it in any case.
    #[test]
    fn the_solver_of_the_pages_finds_the_same_solution() {
        let solver = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/solver.js");
        let program = format!(
            "const {{ solve }} = require({solver:?});\
             console.log(JSON.stringify(solve(JSON.parse(process.argv[1]))));"
        );
        for difficulty in [EASY, Difficulty { memory_cost: 1, ..EASY }, Difficulty { cost: 4096, ..EASY }] {
            let work = Work::of(&challenge(), difficulty);
            let json = serde_json::to_string(&work).unwrap();
            let node = Command::new("node").args(["-e", &program, &json]).stderr(Stdio::inherit()).output();
            let output = match node {
                Ok(output) => output,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    println!("NOT RUN: node is not installed");
                    return;
                }
                Err(error) => panic!("{error}"),
            };
            assert!(output.status.success());
            let found: Found = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(found, work.solve().unwrap());
            assert!(work.is_done(&found));
        }
    }
}
