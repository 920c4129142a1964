//! `state-*.json`: what the judging had learned at an instant of the recording, and so what a replay of the rest begins with.
//!
//! A person sees when that was and which incidents were open; the judging itself is in it as the checkpoint has it (CBOR: it knows NaN),
//! compressed.

use super::lane::{ASIDE, Aside};
use super::{RecorderError, failed};
use crate::fleet::Place;
use crate::incidents::{Incident, rfc3339};
use crate::judge::{Judge, JudgeConfig};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use gridstep_wire::Micros;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::thread::JoinHandle;

const VERSION: u32 = 1;
/// Quick, and two thirds less.
const ZSTD_LEVEL: i32 = 1;

/// The judging at an instant.
#[derive(Debug)]
pub(crate) struct Learned {
    /// What arrived up to then is in it, and what arrives later is not.
    pub(crate) at: Micros,
    /// The rows before it do not lead to it: the collector was started, or what was judged was recorded at another time.
    pub(crate) anew: bool,
    pub(crate) config: JudgeConfig,
    pub(crate) places: Vec<Place>,
    pub(crate) judge: Judge,
}

#[derive(Serialize)]
struct Written<'a> {
    version: u32,
    collector: &'a str,
    at: String,
    at_us: i64,
    anew: bool,
    incidents: Vec<&'a Incident>,
    judging: String,
}

/// What is known of a file without taking it apart.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct Head {
    version: u32,
    pub(crate) at_us: i64,
    pub(crate) anew: bool,
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    judging: &'a str,
}

#[derive(Deserialize)]
struct Inside {
    config: JudgeConfig,
    places: Vec<Place>,
    judge: Judge,
}

#[derive(Serialize)]
struct InsideOf<'a> {
    config: &'a JudgeConfig,
    places: &'a [Place],
    judge: &'a Judge,
}

impl Learned {
    fn encode(&self) -> io::Result<Vec<u8>> {
        let inside = InsideOf { config: &self.config, places: &self.places, judge: &self.judge };
        let mut packed = zstd::stream::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
        ciborium::into_writer(&inside, &mut packed).map_err(|error| io::Error::other(error.to_string()))?;
        let written = Written {
            version: VERSION,
            collector: env!("CARGO_PKG_VERSION"),
            at: rfc3339(self.at),
            at_us: self.at.0,
            anew: self.anew,
            incidents: self.judge.incidents().filter(|incident| incident.closed_at.is_none()).collect(),
            judging: BASE64_STANDARD.encode(packed.finish()?),
        };
        Ok(serde_json::to_vec(&written)?)
    }

    /// Writes it aside, in a thread of its own: of a large fleet that takes a second.
    pub(super) fn write(self: Box<Self>, folder: &Path, name: String) -> io::Result<Writing> {
        let path = folder.join(format!("{name}{ASIDE}"));
        let write = move || {
            let mut file = File::create(path).map_err(failed(&name))?;
            self.encode().and_then(|bytes| file.write_all(&bytes)).map_err(failed(&name))?;
            Ok(Aside { file, name, rows: 0 })
        };
        std::thread::Builder::new().name("recorder-state".into()).spawn(write)
    }

    pub(crate) fn read(file: &Path) -> io::Result<Self> {
        let bytes = fs::read(file)?;
        let head: Head = head(&bytes)?;
        let body: Body<'_> = serde_json::from_slice(&bytes)?;
        let packed = BASE64_STANDARD.decode(body.judging).map_err(io::Error::other)?;
        let inside = zstd::stream::Decoder::new(packed.as_slice())?;
        let Inside { config, places, judge } =
            ciborium::from_reader(inside).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Self { at: Micros(head.at_us), anew: head.anew, config, places, judge })
    }
}

/// A state on its way to the disk.
pub(super) type Writing = JoinHandle<Result<Aside, RecorderError>>;

impl Head {
    pub(crate) fn read(file: &Path) -> io::Result<Self> {
        head(&fs::read(file)?)
    }
}

fn head(bytes: &[u8]) -> io::Result<Head> {
    let head: Head = serde_json::from_slice(bytes)?;
    if head.version != VERSION {
        return Err(io::Error::other(format!("version {} is not known", head.version)));
    }
    Ok(head)
}
