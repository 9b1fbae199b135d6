//! Compiles shaders with AMD's compiler in Mesa (RADV), which needs no hardware for it: with
//! `RADV_FORCE_FAMILY` the driver pretends to have a GPU of that family, on which nothing can run.

use std::collections::BTreeMap;
use std::ffi::CStr;

use ash::vk;

/// What the driver says of a compiled shader, by the driver's names.
pub(crate) type Statistics = BTreeMap<String, u64>;

/// A device that compiles shaders.
pub(crate) struct Compiler {
    // Must outlive all other handles.
    _entry: ash::Entry,
    device: ash::Device,
    statistics: ash::khr::pipeline_executable_properties::Device,
    layout: vk::PipelineLayout,
    /// The name of the device and of its driver.
    pub(crate) name: String,
}

fn text(name: &[std::ffi::c_char]) -> String {
    CStr::from_bytes_until_nul(bytemuck::cast_slice(name))
        .map(|text| text.to_string_lossy().into_owned())
        .unwrap_or_default()
}

impl Compiler {
    /// Uses the first device of the Vulkan drivers.
    #[expect(unsafe_code, reason = "Vulkan is unsafe")]
    pub(crate) fn new() -> Result<Self, Box<dyn std::error::Error>> {
        // SAFETY: the create infos are valid, and everything they point to lives until each call
        // returns. Handles are used only with the device that created them.
        unsafe {
            let entry = ash::Entry::load()?;
            let application = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_3);
            let instance =
                entry.create_instance(&vk::InstanceCreateInfo::default().application_info(&application), None)?;
            let physical = *instance.enumerate_physical_devices()?.first().ok_or("no device")?;
            let mut driver = vk::PhysicalDeviceDriverProperties::default();
            let mut properties = vk::PhysicalDeviceProperties2::default().push_next(&mut driver);
            instance.get_physical_device_properties2(physical, &mut properties);
            let device_name = text(&properties.properties.device_name);
            let name = format!("{device_name}, {}", text(&driver.driver_info));
            // As wgpu requests: hardware checks the bounds of buffers.
            let mut executables =
                vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default().pipeline_executable_info(true);
            let mut subgroups = vk::PhysicalDeviceSubgroupSizeControlFeatures::default().subgroup_size_control(true);
            let mut robust = vk::PhysicalDeviceRobustness2FeaturesEXT::default().robust_buffer_access2(true);
            let features = vk::PhysicalDeviceFeatures::default().robust_buffer_access(true);
            let extensions = [ash::khr::pipeline_executable_properties::NAME, ash::ext::robustness2::NAME];
            let extensions = extensions.map(CStr::as_ptr);
            let queues = [vk::DeviceQueueCreateInfo::default().queue_priorities(&[1.0])];
            let info = vk::DeviceCreateInfo::default()
                .queue_create_infos(&queues)
                .enabled_extension_names(&extensions)
                .enabled_features(&features)
                .push_next(&mut executables)
                .push_next(&mut robust)
                .push_next(&mut subgroups);
            let device = instance.create_device(physical, &info, None)?;
            let statistics = ash::khr::pipeline_executable_properties::Device::new(&instance, &device);
            let bindings: Vec<_> = (0..16)
                .map(|binding| {
                    let kind = match binding {
                        0 => vk::DescriptorType::UNIFORM_BUFFER_DYNAMIC,
                        _ => vk::DescriptorType::STORAGE_BUFFER,
                    };
                    vk::DescriptorSetLayoutBinding::default()
                        .binding(binding)
                        .descriptor_type(kind)
                        .descriptor_count(1)
                        .stage_flags(vk::ShaderStageFlags::COMPUTE)
                })
                .collect();
            let set = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
            let sets = [device.create_descriptor_set_layout(&set, None)?];
            let layout =
                device.create_pipeline_layout(&vk::PipelineLayoutCreateInfo::default().set_layouts(&sets), None)?;
            Ok(Self { _entry: entry, device, statistics, layout, name })
        }
    }

    /// Compiles a compute shader with the entry point `main`.
    #[expect(unsafe_code, reason = "Vulkan is unsafe")]
    pub(crate) fn compile(&self, spirv: &[u32]) -> Result<Statistics, vk::Result> {
        // SAFETY: as above; naga has validated the shader.
        unsafe {
            let module = self.device.create_shader_module(&vk::ShaderModuleCreateInfo::default().code(spirv), None)?;
            let stage = vk::PipelineShaderStageCreateInfo::default()
                .flags(vk::PipelineShaderStageCreateFlags::ALLOW_VARYING_SUBGROUP_SIZE)
                .stage(vk::ShaderStageFlags::COMPUTE)
                .module(module)
                .name(c"main");
            let info = vk::ComputePipelineCreateInfo::default()
                .flags(vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR)
                .stage(stage)
                .layout(self.layout);
            let made = self.device.create_compute_pipelines(vk::PipelineCache::null(), &[info], None);
            let pipeline = made.map_err(|(_, error)| error)?[0];
            let executable = vk::PipelineExecutableInfoKHR::default().pipeline(pipeline);
            let all = self.statistics.get_pipeline_executable_statistics(&executable)?;
            let value = |s: &vk::PipelineExecutableStatisticKHR<'_>| match s.format {
                vk::PipelineExecutableStatisticFormatKHR::UINT64 => s.value.u64,
                _ => 0,
            };
            let statistics = all.iter().map(|s| (text(&s.name), value(s))).collect();
            self.device.destroy_pipeline(pipeline, None);
            self.device.destroy_shader_module(module, None);
            Ok(statistics)
        }
    }
}

/// Translates a kernel as wgpu does for Vulkan.
pub(crate) fn spirv_of(wgsl: &str) -> Vec<u32> {
    use naga::back::spv;
    use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
    let module = naga::front::wgsl::parse_str(wgsl).expect("WGSL");
    let capabilities = naga::valid::Capabilities::default() | naga::valid::Capabilities::SUBGROUP;
    let mut validator = naga::valid::Validator::new(naga::valid::ValidationFlags::all(), capabilities);
    validator.subgroup_stages(naga::valid::ShaderStages::COMPUTE);
    validator.subgroup_operations(naga::valid::SubgroupOperationSet::all());
    let info = validator.validate(&module).expect("valid WGSL");
    let options = spv::Options {
        lang_version: (1, 6),
        flags: spv::WriterFlags::empty(),
        bounds_check_policies: BoundsCheckPolicies {
            index: BoundsCheckPolicy::Restrict,
            // The hardware checks.
            buffer: BoundsCheckPolicy::Unchecked,
            image_load: BoundsCheckPolicy::Unchecked,
            binding_array: BoundsCheckPolicy::Unchecked,
        },
        zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
        ..Default::default()
    };
    spv::write_vec(&module, &info, &options, None).expect("SPIR-V")
}
