// Memory aligned to whole vectors, zero at first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

namespace zob {

class Memory {
public:
    explicit Memory(size_t bytes) : bytes_(new (std::align_val_t{64}) uint8_t[bytes]()) {}
    uint8_t *data() const { return bytes_.get(); }

private:
    struct Free {
        void operator()(uint8_t *p) const { ::operator delete[](p, std::align_val_t{64}); }
    };
    std::unique_ptr<uint8_t[], Free> bytes_;
};

}  // namespace zob
