//! align ─▶ **stragglers** ─▶ incidents
