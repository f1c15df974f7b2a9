// Days of New York, as numbers of days since 1970, and when they begin to trade.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace engine {

using DayNumber = std::int64_t;

constexpr std::int64_t MINUTE_US = 60'000'000;

// Of YYYY-MM-DD; none for anything else, also for days that are in no calendar.
std::optional<DayNumber> day_number(const std::string &text);

// As YYYY-MM-DD.
std::string text_of_day(DayNumber day);

// The day in New York of a moment.
DayNumber new_york_day(std::int64_t at_us);

// 09:30 in New York.
std::int64_t opening_us(DayNumber day);

// The first day from this one on that is neither Saturday nor Sunday. (Holidays are not known here.)
DayNumber next_weekday(DayNumber day);

}  // namespace engine
