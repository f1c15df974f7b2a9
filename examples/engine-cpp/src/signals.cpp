#include "signals.hpp"

#include "amounts.hpp"

namespace engine {
namespace {

std::int64_t distance(std::int64_t a, std::int64_t b) { return a < b ? b - a : a - b; }

}  // namespace

Signals::Signals(std::size_t symbols, std::size_t window_bars) : window_bars_(window_bars), closes_(symbols) {}

std::optional<Signal> Signals::next(std::size_t symbol, std::int64_t close_e10) {
    auto &[closes, path_e10] = closes_[symbol];
    if (!closes.empty())
        path_e10 = narrow(Wide{path_e10} + distance(close_e10, closes.back()));
    closes.push_back(close_e10);
    if (closes.size() <= window_bars_)
        return std::nullopt;
    if (closes.size() > window_bars_ + 1) {
        path_e10 -= distance(closes[0], closes[1]);
        closes.pop_front();
    }
    const Wide change = Wide{close_e10} - closes.front();
    const std::int64_t efficiency_e6 = path_e10 == 0 ? 0 : divided(change * E6, path_e10);
    const Direction direction = efficiency_e6 >= DIRECTED_E6    ? Direction::up
                                : efficiency_e6 <= -DIRECTED_E6 ? Direction::down
                                                                : Direction::neutral;
    return Signal{direction, divided(change * E10, closes.front()), efficiency_e6};
}

}  // namespace engine
