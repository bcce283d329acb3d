// A device of torch whose memory this machine's own code cannot touch, as that of a card: whoever reads or writes it
// past torch ends with SIGSEGV. Every operation is the CPU's own, over a second mapping of the same pages, so that its
// results are those of the CPU to the bit. What cards refuse it refuses too: tensors in two places, float64 (as mps
// does, where APART_NO_FLOAT64 is set), more than APART_BYTES, and a process that was forked after its first use.

#include <ATen/ATen.h>
#include <ATen/EmptyTensor.h>
#include <ATen/native/DispatchStub.h>
#include <ATen/native/transformers/attention.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_native.h>
#include <pybind11/pybind11.h>
#include <torch/library.h>

#include "memory.h"

namespace {

// ---- tensors: those of the device, and the CPU's view of the same bytes ----

void check_kind(at::ScalarType dtype) {
  static const bool refuses = std::getenv("APART_NO_FLOAT64") != nullptr;
  TORCH_CHECK_TYPE(!refuses || dtype != at::kDouble,
                   "Cannot convert an apart Tensor to float64 dtype as it doesn't support float64. Use float32 instead.");
}

at::Tensor alias(const c10::Storage& storage, const at::Tensor& like, c10::DispatchKey key, int64_t offset) {
  auto made = at::detail::make_tensor<c10::TensorImpl>(c10::Storage(storage), c10::DispatchKeySet(key), like.dtype());
  made.unsafeGetTensorImpl()->set_sizes_and_strides(like.sizes(), like.strides(), offset);
  return made;
}

// The CPU's view; it does not keep the bytes, so the tensor has to outlive it.
at::Tensor look(const at::Tensor& tensor) {
  if (!tensor.defined() || tensor.device().type() != KIND) return tensor;
  const auto& storage = tensor.storage();
  void* core = storage.nbytes() == 0 ? nullptr : Arena::get().reach(storage.data());
  c10::Storage mine(c10::Storage::use_byte_size_t(), storage.nbytes(), c10::DataPtr(core, c10::Device(c10::kCPU)));
  return alias(mine, tensor, c10::DispatchKey::CPU, tensor.storage_offset());
}

at::Tensor make_empty(at::IntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                      std::optional<at::Device> device, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  const auto kind = dtype.value_or(at::typeMetaToScalarType(at::get_default_dtype()));
  check_kind(kind);
  const c10::DeviceGuard guard(device.value_or(at::Device(KIND)));
  return at::detail::empty_generic(size, &allocator, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1), kind, format);
}

at::Tensor make_strided(at::IntArrayRef size, at::IntArrayRef stride, std::optional<at::ScalarType> dtype,
                        std::optional<at::Layout>, std::optional<at::Device> device, std::optional<bool>) {
  const auto kind = dtype.value_or(at::typeMetaToScalarType(at::get_default_dtype()));
  check_kind(kind);
  const c10::DeviceGuard guard(device.value_or(at::Device(KIND)));
  const c10::DispatchKeySet keys(c10::DispatchKey::PrivateUse1);
  return at::detail::empty_strided_generic(size, stride, &allocator, keys, kind);
}

// What the CPU has computed, in the device's memory.
at::Tensor bring(const at::Tensor& found, at::Device device) {
  if (!found.defined()) return found;
  auto made = make_strided(found.sizes(), found.strides(), found.scalar_type(), {}, device, {});
  look(made).copy_(found);
  if (found.unsafeGetTensorImpl()->is_wrapped_number()) made.unsafeGetTensorImpl()->set_wrapped_number(true);
  return made;
}

const at::Tensor& grow(const at::Tensor& self, at::IntArrayRef size, std::optional<at::MemoryFormat>) {
  auto* impl = self.unsafeGetTensorImpl();
  const size_t bytes = at::detail::computeStorageNbytesContiguous(size, self.dtype().itemsize(), self.storage_offset());
  const auto& storage = self.storage();
  if (bytes > storage.nbytes()) {
    const c10::DeviceGuard guard(self.device());
    auto fresh = allocator.allocate(bytes);
    if (storage.nbytes() > 0) allocator.copy_data(fresh.get(), storage.data(), storage.nbytes());
    storage.unsafeGetStorageImpl()->set_data_ptr_noswap(std::move(fresh));
    storage.unsafeGetStorageImpl()->set_nbytes(bytes);
  }
  impl->set_sizes_contiguous(size);
  return self;
}

at::Tensor copy_from(const at::Tensor& self, const at::Tensor& to, bool) {
  check_kind(to.scalar_type());
  look(to).copy_(look(self));
  return to;
}

at::Tensor copy_and_resize(const at::Tensor& self, const at::Tensor& to) {
  if (to.device().type() == KIND) grow(to, self.sizes(), {}); else to.resize_(self.sizes());
  return copy_from(self, to, false);
}

// ---- any other operation: the CPU's ----

// One call of an operation: what its tensors become on the CPU, and its results on the device again.
class Crossing {
 public:
  explicit Crossing(const c10::OperatorHandle& op) : name_(op.schema().name()) {}

  at::Tensor enter(const at::Tensor& given, bool is_out) {
    if (!given.defined()) return given;
    if (given.device().type() != KIND) {
      has_host_ = has_host_ || given.dim() > 0;
      return given;
    }
    TORCH_CHECK(!device_.has_value() || *device_ == given.device(), "Expected all tensors to be on the same device, but ",
                "found at least two devices, ", *device_, " and ", given.device(), "! (in ", name_, ")");
    device_ = given.device();
    for (const auto& [before, seen] : pairs_) {
      if (before.unsafeGetTensorImpl() == given.unsafeGetTensorImpl() && !is_out) return seen;
    }
    // The CPU may want to make it larger, and does so only with what is its own.
    auto seen = is_out ? look(given).clone() : look(given);
    (is_out ? outs_ : pairs_).emplace_back(given, seen);
    return seen;
  }

  void check() const {
    // Places may be told by the CPU, and lengths are: nowhere else does a card take a tensor from there.
    const bool may = name_.find("index") != std::string::npos || name_.find("ctc_loss") != std::string::npos;
    TORCH_CHECK(!has_host_ || may || !device_.has_value(), "Expected all tensors to be on the same device, but found at ",
                "least two devices, ", *device_, " and cpu! (in ", name_, ")");
  }

  at::Tensor leave(const at::Tensor& found) {
    if (!found.defined()) return found;
    for (const auto& [given, seen] : pairs_) {
      if (seen.unsafeGetTensorImpl() == found.unsafeGetTensorImpl()) return given;
    }
    for (const auto& [given, seen] : outs_) {
      if (seen.unsafeGetTensorImpl() == found.unsafeGetTensorImpl()) return given;
    }
    // A view of what was given is one of the device's own bytes.
    if (found.has_storage() && found.storage().nbytes() > 0 && Arena::get().holds(found.storage().data())) {
      const void* face = Arena::get().find_face(found.storage().data());
      for (const auto& [given, seen] : pairs_) {
        if (given.storage().data() == face) {
          return alias(given.storage(), found, c10::DispatchKey::PrivateUse1, found.storage_offset());
        }
      }
    }
    return bring(found, device());
  }

  void write_outs() const {
    for (const auto& [given, seen] : outs_) write_back(seen, given);
  }

  at::Device device() const { return device_.value_or(at::Device(KIND, current)); }

 private:
  static void write_back(const at::Tensor& from, const at::Tensor& to) {
    if (from.sizes() != to.sizes()) grow(to, from.sizes(), {});
    look(to).copy_(from);
  }

  std::string name_;
  std::optional<at::Device> device_;
  bool has_host_ = false;
  std::vector<std::pair<at::Tensor, at::Tensor>> pairs_, outs_;
};

void run_on_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto& schema = op.schema();
  const size_t begin = stack->size() - schema.arguments().size();
  Crossing crossing(op);
  std::vector<size_t> drawing;
  for (size_t place = 0; place < schema.arguments().size(); ++place) {
    const auto& argument = schema.arguments()[place];
    auto& value = (*stack)[begin + place];
    const bool is_out = argument.is_out();
    if (value.isTensor()) {
      value = crossing.enter(value.toTensor(), is_out);
    } else if (value.isTensorList()) {
      c10::List<at::Tensor> entered;
      for (const at::Tensor& each : value.toTensorVector()) entered.push_back(crossing.enter(each, is_out));
      value = std::move(entered);
    } else if (value.isOptionalTensorList()) {
      c10::List<std::optional<at::Tensor>> entered;
      for (const std::optional<at::Tensor>& each : value.toOptionalTensorVector()) {
        entered.push_back(each.has_value() ? std::optional(crossing.enter(*each, false)) : std::nullopt);
      }
      value = std::move(entered);
    } else if (value.isDevice()) {
      value = c10::Device(c10::kCPU);
    } else if (argument.name() == "generator" && value.isNone()) {
      drawing.push_back(begin + place);
    }
  }
  crossing.check();
  for (const size_t place : drawing) (*stack)[place] = find_generator(crossing.device().index());
  op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);
  crossing.write_outs();
  for (size_t place = stack->size() - schema.returns().size(); place < stack->size(); ++place) {
    auto& value = (*stack)[place];
    if (value.isTensor()) {
      value = crossing.leave(value.toTensor());
    } else if (value.isTensorList()) {
      c10::List<at::Tensor> left;
      for (const at::Tensor& each : value.toTensorVector()) left.push_back(crossing.leave(each));
      value = std::move(left);
    }
  }
}

std::tuple<at::Tensor, at::Tensor> drop_out(const at::Tensor& input, double share, std::optional<bool> is_training) {
  if (!is_training.value_or(true)) return {input.clone(), at::ones_like(input, at::kBool)};
  auto kept = at::empty_like(input, at::kBool).bernoulli_(1 - share);
  return {input * kept * (share == 1 ? 0.0 : 1 / (1 - share)), kept};
}

at::Tensor convolve(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                    at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed,
                    at::IntArrayRef output_padding, int64_t groups) {
  const auto added = bias.has_value() ? std::optional(look(*bias)) : std::nullopt;
  return bring(at::convolution(look(input), look(weight), added, stride, padding, dilation, transposed, output_padding,
                               groups), input.device());
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> convolve_back(
    const at::Tensor& gradient, const at::Tensor& input, const at::Tensor& weight, at::IntArrayRef stride,
    at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed, at::IntArrayRef output_padding, int64_t groups,
    std::array<bool, 3> wanted) {
  const std::vector<int64_t> biases{gradient.size(1)};
  const auto [a, b, c] = at::convolution_backward(look(gradient), look(input), look(weight), biases, stride, padding,
                                                  dilation, transposed, output_padding, groups, wanted);
  return {bring(a, input.device()), bring(b, input.device()), bring(c, input.device())};
}

at::Tensor& set_whole(at::Tensor& self, at::Storage source) {
  const auto count = static_cast<int64_t>(source.nbytes() / self.dtype().itemsize());
  return at::native::set_storage_cpu_(self, std::move(source), 0, {count}, {});
}

bool is_like(const at::Tensor&, const at::Tensor&) { return true; }

int64_t choose_attention(const at::Tensor&, const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&, double,
                         bool, std::optional<double>, bool) {
  return 0;  // torch's own arithmetic, of plain operations
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&run_on_cpu>()); }

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", &make_empty);
  m.impl("empty_strided", &make_strided);
  m.impl("resize_", &grow);
  m.impl("_copy_from", &copy_from);
  m.impl("_copy_from_and_resize", &copy_and_resize);
  m.impl("as_strided", &at::native::as_strided_tensorimpl);
  m.impl("view", &at::native::view);
  m.impl("_reshape_alias", &at::native::_reshape_alias);
  m.impl("unfold", &at::native::unfold);
  m.impl("set_.source_Storage", &set_whole);
  m.impl("set_.source_Storage_storage_offset", &at::native::set_storage_cpu_);
  m.impl("set_.source_Tensor", &at::native::set_tensor_);
  m.impl("_has_compatible_shallow_copy_type", &is_like);
  m.impl("native_dropout", &drop_out);
  m.impl("convolution_overrideable", &convolve);
  m.impl("convolution_backward_overrideable", &convolve_back);
}

}  // namespace

namespace at::native {
REGISTER_PRIVATEUSE1_DISPATCH(_fused_sdp_choice_stub, &choose_attention)
}

PYBIND11_MODULE(_apart, m) {
  at::RegisterPrivateUse1HooksInterface(new Hooks());
  m.def("device_count", [] { return static_cast<int>(DEVICES); });
  m.def("current_device", [] { return static_cast<int>(current); });
  m.def("set_device", [](int index) { Guard().setDevice({KIND, static_cast<c10::DeviceIndex>(index)}); });
  m.def("seed_device", [](int index, uint64_t seed) {
    auto generator = find_generator(static_cast<c10::DeviceIndex>(index));
    const std::lock_guard<std::mutex> guard(generator.mutex());
    generator.set_current_seed(seed);
  });
  m.def("count_bytes", [] { return std::make_pair(Arena::get().used(), Arena::get().peak()); });
}
