#include "bars.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <fstream>
#include <stdexcept>
#include <string_view>

#include "amounts.hpp"
#include "publish.hpp"

namespace engine {
namespace {

constexpr std::string_view COLUMNS = "ts_utc,ts_nyt_epoch,open,high,low,close,volume";
enum Column { ts_utc, ts_nyt_epoch, open, high, low, close, volume, COUNT };

constexpr std::int64_t LAST_S = 7'258'118'400;  // 2200, beyond which the platform believes no time

using Fields = std::array<std::string_view, COUNT>;

struct BadLine : std::runtime_error {
    using std::runtime_error::runtime_error;
};

Fields fields_of(std::string_view line) {
    Fields fields;
    std::size_t count = 0;
    for (std::size_t at = 0; at <= line.size(); count++) {
        const std::size_t end = std::min(line.find(',', at), line.size());
        if (count < COUNT)
            fields[count] = line.substr(at, end - at);
        at = end + 1;
    }
    if (count != COUNT)
        throw BadLine("it has " + std::to_string(count) + " fields, not " + std::to_string(COUNT));
    return fields;
}

std::int64_t number(const Fields &fields, Column column, const char *name, int digits, std::int64_t least) {
    const auto value = decimal(fields[column], digits);
    if (!value || *value < least)
        throw BadLine(std::string(name) + " is '" + std::string(fields[column]) + "'");
    return *value;
}

std::int64_t minute_us(const Fields &fields) {
    const std::int64_t at_s = number(fields, ts_nyt_epoch, "ts_nyt_epoch", 0, 1);
    if (at_s >= LAST_S || at_s % 60 != 0)
        throw BadLine("ts_nyt_epoch is '" + std::string(fields[ts_nyt_epoch]) + "', no minute from 1970 to 2199");
    return at_s * 1'000'000;
}

std::int64_t close_e10(const Fields &fields) {
    const std::int64_t first = number(fields, open, "open", 10, 1), highest = number(fields, high, "high", 10, 1),
                       lowest = number(fields, low, "low", 10, 1), last = number(fields, close, "close", 10, 1);
    number(fields, volume, "volume", 8, 0);
    if (lowest > std::min(first, last) || highest < std::max(first, last))
        throw BadLine("open and close are not between low and high");
    return last;
}

void read_file(const std::filesystem::path &path, Span span, Market &market) {
    std::ifstream file(path);
    std::string line;
    if (!std::getline(file, line))
        throw std::runtime_error(path.string() + " cannot be read or is empty");
    const auto trimmed = [&line] { return std::string_view(line).substr(0, line.find_last_not_of('\r') + 1); };
    if (trimmed() != COLUMNS)
        throw std::runtime_error(path.string() + " line 1: the columns are not " + std::string(COLUMNS));
    const std::size_t symbol = market.symbols.size();
    market.symbols.push_back(path.stem().string());
    std::int64_t before_us = 0;
    for (int at_line = 2; std::getline(file, line); at_line++) {
        if (trimmed().empty())
            continue;
        try {
            const Fields fields = fields_of(trimmed());
            const std::int64_t at_us = minute_us(fields);
            const Bar bar{symbol, close_e10(fields)};
            if (at_us <= before_us)
                throw BadLine("its time is not after that of the line before");
            before_us = at_us;
            const DayNumber day = new_york_day(at_us);
            if (day >= span.first && day <= span.last)
                market.days[day][at_us].push_back(bar);
        } catch (const BadLine &bad) {
            market.bad_lines++;
            std::fprintf(stderr, "%s line %d: left out, %s\n", path.c_str(), at_line, bad.what());
        }
    }
}

}  // namespace

Market read_bars(const std::filesystem::path &folder, Span span) {
    std::vector<std::filesystem::path> files;
    for (const auto &entry : std::filesystem::directory_iterator(folder))
        if (entry.path().extension() == ".csv")
            files.push_back(entry.path());
    if (files.empty())
        throw std::runtime_error(folder.string() + " has no SYMBOL.csv (unpack .csv.gz first)");
    std::sort(files.begin(), files.end());
    Market market;
    for (const auto &path : files) {
        if (!is_symbol(path.stem().string()))
            throw std::runtime_error(path.string() + ": its name is no symbol of 1 to 16 bytes in UTF-8");
        read_file(path, span, market);
    }
    return market;
}

}  // namespace engine
