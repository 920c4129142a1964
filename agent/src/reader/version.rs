//! The driver's version: what is numbered or named how depends on it.

/// As `580.82.07` begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct DriverVersion {
    major: u32,
    minor: u32,
}

impl DriverVersion {
    pub(super) const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// What cannot be read is taken for old: nothing is asked for that might mean something else.
    pub(super) fn parse(text: &str) -> Self {
        let mut parts = text.split('.').map(|part| part.parse().unwrap_or(0));
        Self { major: parts.next().unwrap_or(0), minor: parts.next().unwrap_or(0) }
    }

    pub(super) fn major(self) -> u32 {
        self.major
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(DriverVersion::parse("580.82.07"), DriverVersion::new(580, 82));
        assert!(DriverVersion::parse("580.105.08") > DriverVersion::parse("580.95.05"));
        assert_eq!(DriverVersion::parse(""), DriverVersion::new(0, 0));
    }
}
