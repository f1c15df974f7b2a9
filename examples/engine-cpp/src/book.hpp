// The account of one day: what it holds, what its fills cost and gain, and the events that say so.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "publish.hpp"
#include "totals.hpp"

namespace engine {

// What the market takes, and what the account begins with.
struct Terms {
    std::int64_t capital_e6 = 100'000'000'000;  // 100,000 USD, each day anew
    std::int64_t slippage_ppm = 50;             // of the price, to the account's disadvantage
    std::int64_t fee_per_share_e6 = 3'500;      // 0.0035 USD
    std::int64_t least_fee_e6 = 350'000;        // 0.35 USD a fill
};

struct Held {
    std::int64_t quantity_e8, entry_e10;
    std::int64_t fees_e6;  // of the entry
    std::int64_t since_us;
};

class Book {
  public:
    Book(Publisher &publisher, const std::vector<std::string> &symbols, std::string account, Terms terms = {});

    // The price that the symbol is valued at from now on.
    void mark(std::size_t symbol, std::int64_t price_e10) { marks_e10_[symbol] = price_e10; }

    // Buys whole shares for that part of the equity; nothing where it is not enough for one.
    void enter(std::size_t symbol, std::int64_t part_ppm, const std::string &reason, std::int64_t at_us);

    // Sells all that is held, and realizes what the round trip gained after the costs of both fills.
    void leave(std::size_t symbol, const std::string &reason, std::int64_t at_us);

    // The end of a minute: the positions that are held or gone in it, and the account.
    void close_minute(std::int64_t at_us);

    const std::map<std::size_t, Held> &held() const { return held_; }
    DayTotals &totals() { return totals_; }

  private:
    std::int64_t fill(std::size_t symbol, const Held *closes, std::int64_t quantity_e8, std::int64_t price_e10,
                      const std::string &reason, std::int64_t at_us);
    std::int64_t unrealized_e6(std::size_t symbol, const Held &held) const;
    std::int64_t unrealized_e6() const;
    void publish_position(std::size_t symbol, std::int64_t at_us);

    Publisher &publisher_;
    const std::vector<std::string> &symbols_;
    Terms terms_;
    DayTotals totals_;
    std::vector<std::int64_t> marks_e10_, realized_e6_;
    std::map<std::size_t, Held> held_;
    std::vector<std::size_t> gone_;  // in this minute
    int orders_ = 0;
};

}  // namespace engine
