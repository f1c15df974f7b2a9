// What an account did in its day, added up as the platform's statistics are (schemas/avro/aggregate_updated.avsc), and
// the line that the engine prints at its end.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bars.hpp"
#include "publish.hpp"

namespace engine {

struct Totals {
    std::int64_t fills = 0;
    std::int64_t trades = 0, wins = 0, losses = 0;  // round trips; one of exactly zero is neither
    std::int64_t volume_e8 = 0, notional_e6 = 0, fees_e6 = 0;
    std::int64_t realized_pnl_e6 = 0, gross_profit_e6 = 0, gross_loss_e6 = 0;
    std::int64_t signals = 0, positions = 0, minutes = 0;  // events

    void add_fill(std::int64_t quantity_e8, std::int64_t price_e10, std::int64_t fees);
    void add_round_trip(std::int64_t pnl_e6);
    void add(const Totals &other);
};

class DayTotals : public Totals {
  public:
    explicit DayTotals(std::string name) : account(std::move(name)) {}

    // The account's equity at the end of a minute, in the order of time.
    void add_minute(std::int64_t equity_e6);

    std::string account;
    std::int64_t equity_close_e6 = 0;
    std::int64_t max_drawdown_e10 = 0;  // deepest fall of the minutes' equity below its running peak, a part of the peak

  private:
    std::int64_t peak_e6_ = 0;
};

// One line of JSON; amounts are texts with all their decimals.
std::string report(const std::vector<DayTotals> &days, const Publisher::Counts &counts, std::uint64_t bad_lines);

}  // namespace engine
