// The ring, from the engine's side: what happens when it is full, and what has become of the events.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "sentio.h"

namespace engine {

// Whether sentio.h takes it for a symbol.
bool is_symbol(const std::string &text);

struct RingOptions {
    std::string path;
    std::string name = "rotation-cpp";
    std::uint64_t capacity = 1 << 16;
    // How long an event waits for room. Then it is lost, and so is what follows until there is room again: an engine
    // that is live must not stand still for a reader that does not come.
    std::chrono::milliseconds patience{60'000};
    // Leave out as many events as the ring has had: a run that gives the same events each time, and was killed, so goes
    // on where it was.
    bool resume = false;
};

class Publisher {
  public:
    struct Counts {
        std::uint64_t published = 0, resumed = 0;  // resumed: in the ring already, by an earlier run
        std::uint64_t lost = 0, refused = 0;
        std::uint64_t waits = 0;  // events that found the ring full
        std::chrono::microseconds waited{0};
    };

    // Throws std::runtime_error where the ring cannot be had.
    explicit Publisher(const RingOptions &options);
    ~Publisher();
    Publisher(const Publisher &) = delete;
    Publisher &operator=(const Publisher &) = delete;

    void publish(const sentio_trade &trade) { send(sentio_publish_trade, trade, "trade"); }
    void publish(const sentio_signal &signal) { send(sentio_publish_signal, signal, "signal"); }
    void publish(const sentio_position &position) { send(sentio_publish_position, position, "position"); }
    void publish(const sentio_performance &minute) { send(sentio_publish_performance, minute, "performance"); }

    const Counts &counts() const { return counts_; }

  private:
    template <class Event>
    void send(int (*into_ring)(sentio_ring *, const Event *), const Event &event, const char *what) {
        if (counts_.resumed < already_) {
            counts_.resumed++;
            return;
        }
        int answer = into_ring(&ring_, &event);
        if (answer == SENTIO_FULL)
            answer = when_there_is_room([&] { return into_ring(&ring_, &event); });
        count(answer, what);
    }

    template <class Again>
    int when_there_is_room(Again again);
    void count(int answer, const char *what);
    void pause(int turn) const;

    sentio_ring ring_;
    std::chrono::milliseconds patience_;
    std::uint64_t already_ = 0;
    bool losing_ = false;
    Counts counts_;
};

template <class Again>
int Publisher::when_there_is_room(Again again) {
    counts_.waits++;
    if (losing_)
        return SENTIO_FULL;
    const auto began = std::chrono::steady_clock::now();
    int answer = SENTIO_FULL;
    auto waited = began - began;
    for (int turn = 0; answer == SENTIO_FULL && waited < patience_; turn++) {
        pause(turn);
        answer = again();
        waited = std::chrono::steady_clock::now() - began;
    }
    counts_.waited += std::chrono::duration_cast<std::chrono::microseconds>(waited);
    return answer;
}

}  // namespace engine
