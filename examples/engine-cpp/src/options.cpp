#include "options.hpp"

#include <cmath>
#include <cstdlib>
#include <stdexcept>

#include "amounts.hpp"

namespace engine {

const char *const USAGE =
    R"(rotation --ring PATH (--bars FOLDER | --simulate SEED) [options]

  --ring PATH        file that `sentio sidecar PATH` reads; /dev/shm/... is in memory
  --capacity N       records of the ring, a power of two (65536)
  --patience SECONDS how long an event waits for room in the ring before it is lost (60)
  --resume           the ring has the beginning of this very run: go on behind it
  --bars FOLDER      minute bars, a SYMBOL.csv each: ts_utc,ts_nyt_epoch,open,high,low,close,volume
  --simulate SEED    bars of its own instead; the same seed, the same bars
  --days N           how many days of them (3)
  --from DAY         first day, YYYY-MM-DD in New York (of the simulation: 2025-10-08)
  --to DAY           last day of the bars
  --speed N          1 is real time, 60 a minute a second, or max (max)
  --account NAME     of the accounts, one a day: NAME-YYYY-MM-DD (cpp)
)";

namespace {

[[noreturn]] void refuse(const std::string &option, const std::string &value, const std::string &allowed) {
    throw std::invalid_argument(option + " " + value + ": " + allowed);
}

std::int64_t whole(const std::string &option, const std::string &value, std::int64_t least, std::int64_t most) {
    const auto number = value.find('.') == std::string::npos ? decimal(value, 0) : std::nullopt;
    if (!number || *number < least || *number > most)
        refuse(option, value, "a whole number from " + std::to_string(least) + " to " + std::to_string(most));
    return *number;
}

DayNumber day(const std::string &option, const std::string &value) {
    const auto number = day_number(value);
    if (!number)
        refuse(option, value, "a day as YYYY-MM-DD");
    return *number;
}

std::optional<double> speed(const std::string &option, const std::string &value) {
    if (value == "max")
        return std::nullopt;
    char *end = nullptr;
    const double factor = std::strtod(value.c_str(), &end);
    if (value.empty() || *end || !(factor > 0) || !std::isfinite(factor))
        refuse(option, value, "a number above zero, or max");
    return factor;
}

std::string account(const std::string &option, const std::string &value) {
    constexpr std::size_t DAY_BYTES = sizeof "-2025-10-10" - 1;
    const bool plain = value.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") ==
                       std::string::npos;
    if (value.empty() || !plain || value.size() + DAY_BYTES > SENTIO_ACCOUNT_BYTES)
        refuse(option, value, "up to 21 letters, digits, - and _");
    return value;
}

}  // namespace

Options parse(int count, char **words) {
    constexpr std::int64_t MOST = std::numeric_limits<std::int64_t>::max();
    Options options;
    bool simulated = false;
    for (int at = 1; at < count; at++) {
        const std::string option = words[at];
        if (option == "--help") {
            options.help = true;
            return options;
        }
        if (option == "--resume") {
            options.ring.resume = true;
            continue;
        }
        if (at + 1 == count)
            throw std::invalid_argument(option + ": its value is missing, or there is no such option");
        const std::string value = words[++at];
        if (option == "--ring")
            options.ring.path = value;
        else if (option == "--capacity")
            options.ring.capacity = static_cast<std::uint64_t>(whole(option, value, 64, 1 << 30));
        else if (option == "--patience")
            options.ring.patience = std::chrono::seconds(whole(option, value, 0, 1'000'000));
        else if (option == "--bars")
            options.bars = value;
        else if (option == "--simulate") {
            simulated = true;
            options.seed = static_cast<std::uint64_t>(whole(option, value, 0, MOST));
        } else if (option == "--days")
            options.days = static_cast<int>(whole(option, value, 1, 10'000));
        else if (option == "--from")
            options.span.first = day(option, value);
        else if (option == "--to")
            options.span.last = day(option, value);
        else if (option == "--speed")
            options.speed = speed(option, value);
        else if (option == "--account")
            options.account = account(option, value);
        else
            throw std::invalid_argument(option + ": there is no such option");
    }
    if (options.ring.path.empty())
        throw std::invalid_argument("--ring is missing");
    if (simulated == !options.bars.empty())
        throw std::invalid_argument("either --bars or --simulate");
    return options;
}

}  // namespace engine
