#include "totals.hpp"

#include <algorithm>

#include "amounts.hpp"

namespace engine {
namespace {

// An object or array of JSON. All names and texts here are plain: digits, dates, and the account's checked name.
class Json {
  public:
    Json &name(const std::string &name) {
        separate();
        text_ += '"' + name + "\":";
        empty_ = true;  // its value follows without a comma
        return *this;
    }
    template <class Number>
    void number(const char *key, Number value) {
        name(key).put(std::to_string(value));
    }
    void amount(const char *key, std::int64_t value, int digits) { name(key).put('"' + text(value, digits) + '"'); }
    void put(const std::string &value) {
        separate();
        text_ += value;
        empty_ = false;
    }
    void open(char bracket) {
        separate();
        text_ += bracket;
        empty_ = true;
    }
    void close(char bracket) {
        text_ += bracket;
        empty_ = false;
    }
    const std::string &said() const { return text_; }

  private:
    void separate() {
        if (!empty_)
            text_ += ',';
        empty_ = true;
    }

    std::string text_;
    bool empty_ = true;
};

void put(Json &json, const Totals &of) {
    json.number("fills", of.fills);
    json.number("trades", of.trades);
    json.number("wins", of.wins);
    json.number("losses", of.losses);
    json.amount("volume", of.volume_e8, 8);
    json.amount("notional", of.notional_e6, 6);
    json.amount("fees", of.fees_e6, 6);
    json.amount("realized_pnl", of.realized_pnl_e6, 6);
    json.amount("gross_profit", of.gross_profit_e6, 6);
    json.amount("gross_loss", of.gross_loss_e6, 6);
    json.number("signals", of.signals);
    json.number("positions", of.positions);
    json.number("minutes", of.minutes);
}

}  // namespace

void Totals::add_fill(std::int64_t quantity_e8, std::int64_t price_e10, std::int64_t fees) {
    fills++;
    volume_e8 = narrow(Wide{volume_e8} + quantity_e8);
    notional_e6 = narrow(Wide{notional_e6} + worth_e6(price_e10, quantity_e8));
    fees_e6 += fees;
}

void Totals::add_round_trip(std::int64_t pnl_e6) {
    trades++;
    wins += pnl_e6 > 0;
    losses += pnl_e6 < 0;
    realized_pnl_e6 += pnl_e6;
    (pnl_e6 > 0 ? gross_profit_e6 : gross_loss_e6) += pnl_e6 > 0 ? pnl_e6 : -pnl_e6;
}

void Totals::add(const Totals &other) {
    fills += other.fills;
    trades += other.trades;
    wins += other.wins;
    losses += other.losses;
    volume_e8 = narrow(Wide{volume_e8} + other.volume_e8);
    notional_e6 = narrow(Wide{notional_e6} + other.notional_e6);
    fees_e6 += other.fees_e6;
    realized_pnl_e6 += other.realized_pnl_e6;
    gross_profit_e6 += other.gross_profit_e6;
    gross_loss_e6 += other.gross_loss_e6;
    signals += other.signals;
    positions += other.positions;
    minutes += other.minutes;
}

void DayTotals::add_minute(std::int64_t equity_e6) {
    minutes++;
    equity_close_e6 = equity_e6;
    peak_e6_ = std::max(peak_e6_, equity_e6);
    if (peak_e6_ > 0)
        max_drawdown_e10 = std::max(max_drawdown_e10, divided((Wide{peak_e6_} - equity_e6) * E10, peak_e6_));
}

std::string report(const std::vector<DayTotals> &days, const Publisher::Counts &counts, std::uint64_t bad_lines) {
    Json json;
    Totals all;
    json.open('{');
    json.name("days").open('[');
    for (const DayTotals &day : days) {
        all.add(day);
        json.open('{');
        json.name("account").put('"' + day.account + '"');
        put(json, day);
        json.amount("equity_close", day.equity_close_e6, 6);
        json.amount("max_drawdown", day.max_drawdown_e10, 10);
        json.close('}');
    }
    json.close(']');
    json.name("all").open('{');
    put(json, all);
    json.close('}');
    json.number("published", counts.published);
    json.number("resumed", counts.resumed);
    json.number("lost", counts.lost);
    json.number("refused", counts.refused);
    json.number("waits", counts.waits);
    json.number("waited_us", counts.waited.count());
    json.number("bad_lines", bad_lines);
    json.close('}');
    return json.said();
}

}  // namespace engine
