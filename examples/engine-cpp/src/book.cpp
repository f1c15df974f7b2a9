#include "book.hpp"

#include <algorithm>
#include <cstdio>

#include "amounts.hpp"

namespace engine {
namespace {

constexpr const char *STRATEGY = "rotation";
constexpr int BUY = 1, SELL = -1;

std::int64_t slipped_e10(std::int64_t price_e10, std::int64_t slippage_ppm, int sign) {
    return divided(Wide{price_e10} * (E6 + sign * slippage_ppm), E6);
}

}  // namespace

Book::Book(Publisher &publisher, const std::vector<std::string> &symbols, std::string account, Terms terms)
    : publisher_(publisher), symbols_(symbols), terms_(terms), totals_(std::move(account)), marks_e10_(symbols.size()),
      realized_e6_(symbols.size()) {}

void Book::enter(std::size_t symbol, std::int64_t part_ppm, const std::string &reason, std::int64_t at_us) {
    const std::int64_t price_e10 = slipped_e10(marks_e10_[symbol], terms_.slippage_ppm, BUY);
    const Wide equity_e6 = Wide{terms_.capital_e6} + totals_.realized_pnl_e6 + unrealized_e6();
    const std::int64_t shares = narrow(equity_e6 * part_ppm / E6 * (E10 / E6) / price_e10);
    if (shares < 1)
        return;
    const std::int64_t quantity_e8 = narrow(Wide{shares} * E8);
    const std::int64_t fees_e6 = fill(symbol, nullptr, quantity_e8, price_e10, reason, at_us);
    held_[symbol] = {quantity_e8, price_e10, fees_e6, at_us};
}

void Book::leave(std::size_t symbol, const std::string &reason, std::int64_t at_us) {
    const Held held = held_.at(symbol);
    held_.erase(symbol);
    gone_.push_back(symbol);
    fill(symbol, &held, held.quantity_e8, slipped_e10(marks_e10_[symbol], terms_.slippage_ppm, SELL), reason, at_us);
}

// Publishes a fill and counts it; returns its fees.
std::int64_t Book::fill(std::size_t symbol, const Held *closes, std::int64_t quantity_e8, std::int64_t price_e10,
                        const std::string &reason, std::int64_t at_us) {
    const std::int64_t fees_e6 =
        std::max(terms_.least_fee_e6, divided(Wide{terms_.fee_per_share_e6} * quantity_e8, E8));
    const std::string order_id = totals_.account + "-" + std::to_string(++orders_);
    totals_.add_fill(quantity_e8, price_e10, fees_e6);
    sentio_trade trade = {};
    trade.account = totals_.account.c_str();
    trade.strategy = STRATEGY;
    trade.symbol = symbols_[symbol].c_str();
    trade.action = closes ? SENTIO_EXIT : SENTIO_ENTRY;
    trade.side = closes ? SENTIO_SELL : SENTIO_BUY;
    trade.quantity_e8 = quantity_e8;
    trade.price_e10 = price_e10;
    trade.fees_e6 = fees_e6;
    trade.reason = reason.c_str();
    trade.order_id = order_id.c_str();
    trade.executed_at_us = at_us;
    if (closes) {
        trade.has_realized_pnl = 1;
        trade.realized_pnl_e6 = worth_e6(price_e10 - closes->entry_e10, quantity_e8) - closes->fees_e6 - fees_e6;
        realized_e6_[symbol] += trade.realized_pnl_e6;
        totals_.add_round_trip(trade.realized_pnl_e6);
    }
    publisher_.publish(trade);
    return fees_e6;
}

// At the mark, less what the entry cost; what the exit will cost is still to come.
std::int64_t Book::unrealized_e6(std::size_t symbol, const Held &held) const {
    return worth_e6(marks_e10_[symbol] - held.entry_e10, held.quantity_e8) - held.fees_e6;
}

std::int64_t Book::unrealized_e6() const {
    std::int64_t sum_e6 = 0;
    for (const auto &[symbol, held] : held_)
        sum_e6 += unrealized_e6(symbol, held);
    return sum_e6;
}

void Book::publish_position(std::size_t symbol, std::int64_t at_us) {
    sentio_position position = {};
    position.account = totals_.account.c_str();
    position.symbol = symbols_[symbol].c_str();
    position.mark_e10 = marks_e10_[symbol];
    position.realized_pnl_e6 = realized_e6_[symbol];
    position.updated_at_us = at_us;
    if (const auto held = held_.find(symbol); held != held_.end()) {
        position.quantity_e8 = held->second.quantity_e8;
        position.average_entry_e10 = held->second.entry_e10;
        position.unrealized_pnl_e6 = unrealized_e6(symbol, held->second);
    }  // else it stays at zero shares, which says that it is closed
    totals_.positions++;
    publisher_.publish(position);
}

void Book::close_minute(std::int64_t at_us) {
    for (const std::size_t symbol : gone_)
        publish_position(symbol, at_us);
    gone_.clear();
    for (const auto &[symbol, held] : held_)
        publish_position(symbol, at_us);
    sentio_performance minute = {};
    minute.account = totals_.account.c_str();
    minute.realized_pnl_e6 = totals_.realized_pnl_e6;
    minute.unrealized_pnl_e6 = unrealized_e6();
    minute.equity_e6 = terms_.capital_e6 + minute.realized_pnl_e6 + minute.unrealized_pnl_e6;
    minute.day_return_e10 = narrow(Wide{divided(Wide{minute.equity_e6} * E10, terms_.capital_e6)} - E10);
    minute.open_positions = static_cast<std::int32_t>(held_.size());
    minute.minute_at_us = at_us;
    totals_.add_minute(minute.equity_e6);
    publisher_.publish(minute);
}

}  // namespace engine
