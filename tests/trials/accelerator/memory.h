// The memory of the device in apart.cpp, and which of its two devices is the current one.

#pragma once

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/Generator.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <c10/core/Allocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <mutex>
#include <random>
#include <vector>

namespace {

constexpr auto KIND = c10::DeviceType::PrivateUse1;
constexpr c10::DeviceIndex DEVICES = 2;
constexpr size_t ALIGN = 64;
thread_local c10::DeviceIndex current = 0;

// ---- memory: `face` is what tensors point to and nobody may touch, `core` the same bytes for the device's own code ----

class Arena {
 public:
  static Arena& get() {
    static Arena* arena = new Arena();
    // As CUDA: a context does not survive a fork.
    TORCH_CHECK(arena->pid_ == getpid(), "Cannot re-initialize apart in forked subprocess: use it in a new process");
    return *arena;
  }

  void* take(size_t bytes) {
    const size_t size = std::max<size_t>(ALIGN, (bytes + ALIGN - 1) / ALIGN * ALIGN);
    std::lock_guard<std::mutex> guard(lock_);
    for (auto hole = holes_.begin(); hole != holes_.end(); ++hole) {
      if (hole->second < size) continue;
      const auto [begin, room] = *hole;
      holes_.erase(hole);
      if (room > size) holes_[begin + size] = room - size;
      taken_[begin] = size;
      used_ += size;
      peak_ = std::max(peak_, used_);
      // What was there before is nobody's: floats are NaN until they are written.
      std::memset(core_ + begin, 0xff, size);
      return face_ + begin;
    }
    TORCH_CHECK_WITH(OutOfMemoryError, false, "apart out of memory. Tried to allocate ", bytes, " bytes. The device has ",
                     size_, " bytes, of which ", used_, " are in use.");
  }

  void give(void* pointer) {
    std::lock_guard<std::mutex> guard(lock_);
    auto found = taken_.find(static_cast<char*>(pointer) - face_);
    if (found == taken_.end()) return;
    auto [begin, size] = *found;
    taken_.erase(found);
    used_ -= size;
    auto next = holes_.lower_bound(begin);
    if (next != holes_.end() && next->first == begin + size) {
      size += next->second;
      next = holes_.erase(next);
    }
    if (next != holes_.begin() && std::prev(next)->first + std::prev(next)->second == begin) {
      std::prev(next)->second += size;
    } else {
      holes_[begin] = size;
    }
  }

  char* reach(const void* pointer) const { return core_ + (static_cast<const char*>(pointer) - face_); }
  bool holds(const void* pointer) const { return pointer >= core_ && pointer < core_ + size_; }
  void* find_face(const void* pointer) const { return face_ + (static_cast<const char*>(pointer) - core_); }
  size_t used() const { return used_; }
  size_t peak() const { return peak_; }

 private:
  // For whoever wants to know which processes have computed here.
  static void note_process() {
    const char* path = std::getenv("APART_TRACE");
    if (path == nullptr) return;
    std::ofstream(path, std::ios::app) << getpid() << std::endl;
  }

  Arena() : pid_(getpid()) {
    const char* told = std::getenv("APART_BYTES");
    size_ = told == nullptr ? size_t{1} << 30 : std::strtoull(told, nullptr, 10);
    const size_t page = sysconf(_SC_PAGESIZE);
    size_ = std::max(page, size_ / page * page);
    const int file = memfd_create("apart", MFD_CLOEXEC);
    TORCH_CHECK(file >= 0 && ftruncate(file, size_) == 0, "apart: no memory file");
    face_ = static_cast<char*>(mmap(nullptr, size_, PROT_NONE, MAP_SHARED | MAP_NORESERVE, file, 0));
    core_ = static_cast<char*>(mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file, 0));
    TORCH_CHECK(face_ != MAP_FAILED && core_ != MAP_FAILED, "apart: no room for ", size_, " bytes");
    close(file);
    holes_[0] = size_;
    note_process();
  }

  pid_t pid_;
  size_t size_, used_ = 0, peak_ = 0;
  char *face_, *core_;
  std::mutex lock_;
  std::map<size_t, size_t> holes_, taken_;
};

struct Allocator final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    const c10::Device device(KIND, current);
    if (bytes == 0) return {nullptr, device};
    void* pointer = Arena::get().take(bytes);
    return {pointer, pointer, &release, device};
  }
  static void release(void* pointer) { Arena::get().give(pointer); }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, std::size_t count) const override {
    std::memcpy(Arena::get().reach(to), Arena::get().reach(from), count);
  }
};
Allocator allocator;
REGISTER_ALLOCATOR(KIND, &allocator);

// ---- the current device, its streams and its generator ----

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return KIND; }
  c10::Device exchangeDevice(c10::Device to) const override {
    const auto before = getDevice();
    setDevice(to);
    return before;
  }
  c10::Device getDevice() const override { return {KIND, current}; }
  void setDevice(c10::Device to) const override {
    const auto index = to.has_index() ? to.index() : current;
    TORCH_CHECK(index >= 0 && index < DEVICES, "apart: invalid device ordinal ", static_cast<int>(index));
    current = index;
  }
  void uncheckedSetDevice(c10::Device to) const noexcept override { current = to.has_index() ? to.index() : current; }
  c10::Stream getStream(c10::Device of) const override { return c10::Stream(c10::Stream::DEFAULT, of); }
  c10::Stream getDefaultStream(c10::Device of) const override { return getStream(of); }
  c10::Stream exchangeStream(c10::Stream to) const override { return getStream(to.device()); }
  c10::DeviceIndex deviceCount() const noexcept override { return DEVICES; }
  void record(void**, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream&) const override {}
  void synchronizeEvent(void*) const override {}
  void synchronizeDevice(const c10::DeviceIndex) const override {}
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

const at::Generator& find_generator(c10::DeviceIndex index) {
  // Drawn anew in each process, as a card's is: only who seeds the device itself draws the same again.
  static std::vector<at::Generator> generators = [] {
    std::vector<at::Generator> made;
    for (int each = 0; each < DEVICES; ++each) {
      made.push_back(at::make_generator<at::CPUGeneratorImpl>(std::random_device()()));
    }
    return made;
  }();
  return generators.at(index < 0 ? current : index);
}

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return DEVICES; }
  c10::DeviceIndex getCurrentDevice() const override { return current; }
  void setCurrentDevice(c10::DeviceIndex to) const override { Guard().setDevice({KIND, to}); }
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex to) const override {
    return Guard().exchangeDevice({KIND, to}).index();
  }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex to) const override {
    return to < 0 ? current : exchangeDevice(to);
  }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex index) const override { return find_generator(index); }
  at::Device getDeviceFromPtr(void*) const override { return {KIND, current}; }
};

}  // namespace
