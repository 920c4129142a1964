//! GPU performance monitoring: samples that are kept and taken anew, and a request that holds its metrics. The wrapper allocates and frees a
//! sample for each reading, copies three texts for each value, and panics where the library cannot free.

use nvml_wrapper::error::{NvmlError, nvml_sym, nvml_try};
use nvml_wrapper::{Device, Nvml};
use nvml_wrapper_sys::bindings::{
    NVML_GPM_METRICS_GET_VERSION, nvmlGpmMetricsGet_t, nvmlGpmSample_t, nvmlReturn_enum_NVML_ERROR_UNKNOWN,
};

/// The last two samples of a GPU. They are never freed: the process ends with them.
pub(in super::super) struct Samples<'nvml> {
    nvml: &'nvml Nvml,
    earlier: nvmlGpmSample_t,
    later: nvmlGpmSample_t,
    /// How many of them hold something.
    taken: u32,
}

impl<'nvml> Samples<'nvml> {
    pub(in super::super) fn new(nvml: &'nvml Nvml) -> Result<Self, NvmlError> {
        let allocate = nvml_sym(nvml.lib().nvmlGpmSampleAlloc.as_ref())?;
        let mut samples = [std::ptr::null_mut(); 2];
        for sample in &mut samples {
            // SAFETY: the pointer to be filled outlives the call.
            nvml_try(unsafe { allocate(sample) })?;
        }
        Ok(Self { nvml, earlier: samples[0], later: samples[1], taken: 0 })
    }

    /// Takes another sample in place of the older one.
    pub(in super::super) fn take(&mut self, device: &Device<'_>) -> Result<(), NvmlError> {
        let get = nvml_sym(self.nvml.lib().nvmlGpmSampleGet.as_ref())?;
        // SAFETY: handle and sample are this library's, and live.
        let taken = nvml_try(unsafe { get(device.handle(), self.earlier) });
        if taken.is_err() {
            self.taken = 0;
            return taken;
        }
        std::mem::swap(&mut self.earlier, &mut self.later);
        self.taken = (self.taken + 1).min(2);
        Ok(())
    }

    /// Whether there is something between two samples.
    pub(in super::super) fn are_two(&self) -> bool {
        self.taken == 2
    }
}

/// Metrics that are read by one call.
pub(in super::super) struct Metrics {
    request: Box<nvmlGpmMetricsGet_t>,
}

impl Metrics {
    /// At most as many as the request has room for; the rest is left out.
    pub(in super::super) fn new(ids: &[u32]) -> Self {
        // SAFETY: the struct consists of numbers and pointers, for which zero is a value.
        let mut request: Box<nvmlGpmMetricsGet_t> = Box::new(unsafe { std::mem::zeroed() });
        request.version = NVML_GPM_METRICS_GET_VERSION;
        for (metric, &id) in request.metrics.iter_mut().zip(ids) {
            metric.metricId = id;
            request.numMetrics += 1;
        }
        Self { request }
    }

    /// Ids and values between the two samples: percent, or MiB a second.
    pub(in super::super) fn read(
        &mut self,
        samples: &Samples<'_>,
    ) -> Result<impl Iterator<Item = (u32, Result<f64, NvmlError>)> + '_, NvmlError> {
        let get = nvml_sym(samples.nvml.lib().nvmlGpmMetricsGet.as_ref())?;
        let count = self.request.numMetrics as usize;
        (self.request.sample1, self.request.sample2) = (samples.earlier, samples.later);
        for metric in &mut self.request.metrics[..count] {
            // A metric that the driver passes over is not taken for a zero.
            metric.nvmlReturn = nvmlReturn_enum_NVML_ERROR_UNKNOWN;
        }
        // SAFETY: both samples are this library's, and live; the request outlives the call.
        nvml_try(unsafe { get(&raw mut *self.request) })?;
        let metrics = self.request.metrics[..count].iter();
        Ok(metrics.map(|metric| (metric.metricId, nvml_try(metric.nvmlReturn).map(|()| metric.value))))
    }
}
