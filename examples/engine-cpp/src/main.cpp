// A rotation trader: holds the few symbols that rise the most, minute by minute, and publishes what it does into a ring.
#include <algorithm>
#include <cstdio>
#include <exception>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "amounts.hpp"
#include "bars.hpp"
#include "book.hpp"
#include "options.hpp"
#include "publish.hpp"
#include "signals.hpp"
#include "simulation.hpp"
#include "totals.hpp"

namespace engine {
namespace {

constexpr std::size_t WINDOW_BARS = 15;     // that a signal looks back
constexpr std::size_t PLACES = 3;           // symbols held at most
constexpr std::size_t KEPT = 2 * PLACES;    // a symbol is kept while it ranks among these
constexpr std::int64_t PART_PPM = 300'000;  // of the equity, for each place
constexpr std::int64_t LEAST_MINUTES = 5;   // a position is held before it is given up for a better one

struct Ranked {
    std::size_t symbol;
    Signal signal;
};

void publish_signal(Publisher &publisher, const std::string &symbol, const Signal &signal, std::int64_t at_us) {
    sentio_signal event = {};
    event.symbol = symbol.c_str();
    event.direction = signal.direction == Direction::up     ? SENTIO_LONG
                      : signal.direction == Direction::down ? SENTIO_SHORT
                                                            : SENTIO_NEUTRAL;
    event.probability = signal.probability();
    event.confidence = signal.confidence();
    event.bar_id = at_us / MINUTE_US;
    event.generated_at_us = at_us;
    publisher.publish(event);
}

// The symbols with a signal in this minute, the steepest rise first.
std::vector<Ranked> ranked(std::vector<Ranked> signals) {
    std::stable_sort(signals.begin(), signals.end(), [](const Ranked &a, const Ranked &b) {
        return a.signal.momentum_e10 > b.signal.momentum_e10;
    });
    return signals;
}

std::string percent(std::int64_t part_e10) { return text(divided(part_e10, E6), 2) + "%"; }

// Sells what turned, or what others have left behind; then buys the best, while there are places.
void rotate(Book &book, const std::vector<Ranked> &signals, std::int64_t at_us) {
    for (std::size_t rank = 0; rank < signals.size(); rank++) {
        const auto &[symbol, signal] = signals[rank];
        const auto position = book.held().find(symbol);
        if (position == book.held().end())
            continue;
        if (signal.direction == Direction::down)
            book.leave(symbol, "signal turned SHORT", at_us);
        else if (rank >= KEPT && at_us - position->second.since_us >= LEAST_MINUTES * MINUTE_US)
            book.leave(symbol, "fell to rank " + std::to_string(rank + 1), at_us);
    }
    for (std::size_t rank = 0; rank < std::min(PLACES, signals.size()) && book.held().size() < PLACES; rank++) {
        const auto &[symbol, signal] = signals[rank];
        if (signal.direction == Direction::up && !book.held().count(symbol))
            book.enter(symbol, PART_PPM, "rank " + std::to_string(rank + 1) + ", " + percent(signal.momentum_e10), at_us);
    }
}

void close_all(Book &book, std::int64_t at_us) {
    while (!book.held().empty())
        book.leave(book.held().begin()->first, "end of day", at_us);
}

// Lets each minute take its time: 60 s over the speed. Nights take none.
class Pace {
  public:
    explicit Pace(std::optional<double> speed) : speed_(speed), next_(Clock::now()) {}

    void wait() {
        if (!speed_)
            return;
        std::this_thread::sleep_until(next_);
        next_ += std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(60 / *speed_));
    }

  private:
    using Clock = std::chrono::steady_clock;
    std::optional<double> speed_;
    Clock::time_point next_;
};

DayTotals trade(const Market &market, const Day &day, const std::string &account, Publisher &publisher, Pace &pace) {
    Book book(publisher, market.symbols, account);
    Signals signals(market.symbols.size(), WINDOW_BARS);
    const std::int64_t last_us = day.rbegin()->first;
    for (const auto &[at_us, bars] : day) {
        pace.wait();
        std::vector<Ranked> found;
        for (const auto &[symbol, close_e10] : bars) {
            book.mark(symbol, close_e10);
            if (const auto signal = signals.next(symbol, close_e10)) {
                publish_signal(publisher, market.symbols[symbol], *signal, at_us);
                book.totals().signals++;
                found.push_back({symbol, *signal});
            }
        }
        if (at_us == last_us)
            close_all(book, at_us);
        else
            rotate(book, ranked(std::move(found)), at_us);
        book.close_minute(at_us);
    }
    return book.totals();
}

int run(const Options &options) {
    if (options.help) {
        std::printf("%s", USAGE);
        return 0;
    }
    const DayNumber first = options.span.first == Span{}.first ? *day_number("2025-10-08") : options.span.first;
    const Market market = options.bars.empty() ? simulate(options.seed, first, options.days)
                                               : read_bars(options.bars, options.span);
    if (market.days.empty())
        throw std::runtime_error("there are no bars from --from to --to");
    Publisher publisher(options.ring);
    Pace pace(options.speed);
    std::vector<DayTotals> days;
    for (const auto &[day, minutes] : market.days)
        days.push_back(trade(market, minutes, options.account + "-" + text_of_day(day), publisher, pace));
    std::printf("%s\n", report(days, publisher.counts(), market.bad_lines).c_str());
    return publisher.counts().lost || publisher.counts().refused ? 1 : 0;
}

}  // namespace
}  // namespace engine

int main(int count, char **words) {
    try {
        return engine::run(engine::parse(count, words));
    } catch (const std::invalid_argument &wrong) {
        std::fprintf(stderr, "rotation: %s (see --help)\n", wrong.what());
        return 2;
    } catch (const std::exception &failure) {
        std::fprintf(stderr, "rotation: %s\n", failure.what());
        return 1;
    }
}
