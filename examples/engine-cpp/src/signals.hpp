// What the bars say of each symbol: how far it went in the last minutes, and how straight.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

namespace engine {

enum class Direction { neutral, up, down };

struct Signal {
    Direction direction;
    std::int64_t momentum_e10;   // the change of the price over the window, as a part of it
    std::int64_t efficiency_e6;  // -10^6 (straight down) to 10^6 (straight up)

    double probability() const { return static_cast<double>(1'000'000 + efficiency_e6) / 2e6; }
    double confidence() const { return static_cast<double>(efficiency_e6 < 0 ? -efficiency_e6 : efficiency_e6) / 1e6; }
};

// Kaufman's efficiency ratio (Trading Systems and Methods): the way a price has come over the way it has gone. It is a
// trend from `DIRECTED_E6` on; half of it above one half is taken for the probability that the trend holds.
class Signals {
  public:
    static constexpr std::int64_t DIRECTED_E6 = 300'000;

    Signals(std::size_t symbols, std::size_t window_bars);

    // The symbol's signal with this bar; none until its window is full.
    std::optional<Signal> next(std::size_t symbol, std::int64_t close_e10);

  private:
    struct Closes {
        std::deque<std::int64_t> e10;  // the last window_bars + 1
        std::int64_t path_e10 = 0;     // sum of the steps between them, all taken as positive
    };

    std::size_t window_bars_;
    std::vector<Closes> closes_;
};

}  // namespace engine
