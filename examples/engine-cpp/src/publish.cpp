#include "publish.hpp"

#include <stdexcept>
#include <thread>

namespace engine {

bool is_symbol(const std::string &text) {
    return !text.empty() && text.size() <= SENTIO_SYMBOL_BYTES && sentio_is_utf8(text.c_str(), text.size());
}

Publisher::Publisher(const RingOptions &options) : patience_(options.patience) {
    sentio_options asked = {};
    asked.path = options.path.c_str();
    asked.name = options.name.c_str();
    asked.capacity = options.capacity;
    asked.when_full = SENTIO_RETURN_FULL;
    if (sentio_open(&ring_, &asked) != 0)
        throw std::runtime_error(ring_.error);
    if (options.resume)
        already_ = sentio_stats(&ring_).published;
}

Publisher::~Publisher() { sentio_close(&ring_); }

// The reader is at most some milliseconds away when it lives: look again at once, then let others have the processor.
void Publisher::pause(int turn) const {
    constexpr int YIELDS = 100;
    if (turn < YIELDS)
        std::this_thread::yield();
    else
        std::this_thread::sleep_for(std::chrono::microseconds(100));
}

void Publisher::count(int answer, const char *what) {
    if (answer == SENTIO_OK) {
        counts_.published++;
        losing_ = false;
    } else if (answer == SENTIO_FULL) {
        counts_.lost++;
        if (!losing_)
            std::fprintf(stderr, "the ring is full and nobody reads it: events are lost until there is room\n");
        losing_ = true;
    } else {
        counts_.refused++;
        std::fprintf(stderr, "a %s was refused with %d, see enum sentio_answer in sentio.h\n", what, answer);
    }
}

}  // namespace engine
