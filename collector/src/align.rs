//! ingest, replay ─▶ **align** ─▶ power, stragglers
