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
// What a share may cost. Between these no position of the account comes near to what 64 bits hold.
constexpr std::int64_t LEAST_PRICE_E10 = E10 / 100, MOST_PRICE_E10 = 1'000'000 * E10;

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

[[noreturn]] void refuse(const char *name, std::string_view said, const char *allowed) {
    throw BadLine(std::string(name) + " is '" + std::string(said.substr(0, 40)) + "', no " + allowed);
}

std::int64_t minute_us(std::string_view said) {
    const auto at_s = decimal(said, 0);
    if (!at_s || *at_s <= 0 || *at_s >= LAST_S || *at_s % 60 != 0)
        refuse("ts_nyt_epoch", said, "minute from 1970 to 2199");
    return *at_s * 1'000'000;
}

std::int64_t price_e10(const char *name, std::string_view said) {
    const auto price = decimal(said, 10);
    if (!price || *price < LEAST_PRICE_E10 || *price > MOST_PRICE_E10)
        refuse(name, said, "price from 0.01 to 1000000 USD");
    return *price;
}

// Of a line that makes sense as a whole; the others are checked, and not traded on.
std::int64_t close_e10(const Fields &fields) {
    const std::int64_t first = price_e10("open", fields[open]), highest = price_e10("high", fields[high]),
                       lowest = price_e10("low", fields[low]), last = price_e10("close", fields[close]);
    if (lowest > std::min(first, last) || highest < std::max(first, last))
        throw BadLine("open and close are not between low and high");
    if (const auto shares = decimal(fields[volume], 8); !shares || *shares < 0)
        refuse("volume", fields[volume], "number of shares");
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
            const std::int64_t at_us = minute_us(fields[ts_nyt_epoch]);
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
