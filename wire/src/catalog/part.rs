//! Metrics of parts of a GPU or of the node.

use super::catalog;

catalog! {
    /// Of one NVLink of a GPU.
    NVLINK;
}

catalog! {
    /// Of one InfiniBand or RoCE port.
    PORT;
}

catalog! {
    /// Of one network interface.
    INTERFACE;
}

catalog! {
    /// Of one disk.
    DISK;
}
