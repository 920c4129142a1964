//! Parts of a checkpoint that may be of another version: what is not understood of them begins anew, and the rest stays.

use crate::align::power::PowerGrid;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

pub(super) fn or_anew<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(kept(deserializer)?.unwrap_or_default())
}

pub(super) fn gpu_grid_or_anew<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PowerGrid, D::Error> {
    Ok(kept(deserializer)?.unwrap_or_else(super::gpu_grid))
}

fn kept<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Option<T>, D::Error> {
    Ok(ciborium::Value::deserialize(deserializer)?.deserialized().ok())
}
