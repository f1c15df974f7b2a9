#include "calendar.hpp"

#include <cstdio>
#include <ctime>

namespace engine {
namespace {

constexpr std::int64_t DAY_S = 86'400, HOUR_S = 3'600;

DayNumber number_of(int year, int month, int day) {
    std::tm date{};
    date.tm_year = year - 1900;
    date.tm_mon = month - 1;
    date.tm_mday = day;
    return timegm(&date) / DAY_S;
}

std::tm date_of(DayNumber day) {
    const std::time_t at_s = day * DAY_S;
    std::tm date{};
    gmtime_r(&at_s, &date);
    return date;
}

DayNumber sunday_from(DayNumber day) { return day + (7 - date_of(day).tm_wday) % 7; }

// From the second Sunday of March to the first of November, by the Energy Policy Act of 2005.
bool is_summer(DayNumber day) {
    const int year = date_of(day).tm_year + 1900;
    return day >= sunday_from(number_of(year, 3, 8)) && day < sunday_from(number_of(year, 11, 1));
}

std::int64_t behind_utc_s(DayNumber day) { return (is_summer(day) ? 4 : 5) * HOUR_S; }

}  // namespace

std::optional<DayNumber> day_number(const std::string &text) {
    int year = 0, month = 0, day = 0, read = 0;
    if (std::sscanf(text.c_str(), "%4d-%2d-%2d%n", &year, &month, &day, &read) != 3 || text.size() != 10 || read != 10)
        return std::nullopt;
    const DayNumber number = number_of(year, month, day);
    return text_of_day(number) == text ? std::optional(number) : std::nullopt;
}

std::string text_of_day(DayNumber day) {
    const std::tm date = date_of(day);
    char text[16];
    return std::string(text, std::strftime(text, sizeof text, "%Y-%m-%d", &date));
}

DayNumber new_york_day(std::int64_t at_us) {
    const std::int64_t at_s = at_us / 1'000'000;
    return (at_s - behind_utc_s(at_s / DAY_S)) / DAY_S;
}

std::int64_t opening_us(DayNumber day) {
    return (day * DAY_S + behind_utc_s(day) + 9 * HOUR_S + HOUR_S / 2) * 1'000'000;
}

DayNumber next_weekday(DayNumber day) {
    while (date_of(day).tm_wday % 6 == 0)
        day++;
    return day;
}

}  // namespace engine
