#include "core/io/FitsHeader.h"

#include "core/base/Error.h"
#include "core/io/FitsBlocks.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <utility>

#include <fmt/format.h>

namespace patchlight {

namespace {

constexpr std::size_t keywordSize = 8;

std::string_view trimRight(std::string_view text) {
    while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
    return text;
}

std::string_view trim(std::string_view text) {
    while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
    return trimRight(text);
}

/// A card cut into keyword and what follows the value indicator. `value` is empty for commentary cards.
struct CardParts {
    std::string_view keyword;
    std::string_view value;
    bool hasValue = false;
};

CardParts split(std::string_view card) {
    constexpr std::string_view hierarch = "HIERARCH ";
    if (card.starts_with(hierarch)) {
        const std::size_t equals = card.find('=');
        if (equals != std::string_view::npos)
            return {trim(card.substr(hierarch.size(), equals - hierarch.size())), card.substr(equals + 1), true};
    }
    CardParts parts;
    parts.keyword = trimRight(card.substr(0, std::min(card.size(), keywordSize)));
    if (card.size() > keywordSize && card[keywordSize] == '=') {
        parts.value = card.substr(keywordSize + 1);
        parts.hasValue = true;
    }
    return parts;
}

/// The text between the quotes of a value field, '' made into '. `closed` tells whether the second quote was there.
std::optional<std::string> quotedText(std::string_view field) {
    field = trim(field);
    if (field.empty() || field.front() != '\'') return std::nullopt;
    std::string text;
    for (std::size_t i = 1; i < field.size(); ++i) {
        if (field[i] == '\'') {
            if (i + 1 >= field.size() || field[i + 1] != '\'') return text;
            ++i;
        }
        text.push_back(field[i]);
    }
    return text; // the closing quote is missing: what is there counts
}

std::string_view unquoted(std::string_view field) {
    return trim(field.substr(0, std::min(field.find('/'), field.size())));
}

std::optional<double> parseNumber(std::string_view text) {
    text = trim(text);
    if (text.starts_with('+')) text.remove_prefix(1);
    // FORTRAN's D exponent is legal in FITS; "inf" and "nan", which from_chars accepts, are not.
    std::string plain(text);
    for (char& c : plain) {
        if (c == 'D' || c == 'd') c = 'E';
        if ((c < '0' || c > '9') && c != '+' && c != '-' && c != '.' && c != 'E' && c != 'e') return std::nullopt;
    }
    double value = 0;
    const auto [end, error] = std::from_chars(plain.data(), plain.data() + plain.size(), value);
    if (error != std::errc() || end != plain.data() + plain.size() || plain.empty()) return std::nullopt;
    return value;
}

bool isIndexed(std::string_view keyword, std::string_view root) {
    if (keyword.size() <= root.size() || !keyword.starts_with(root)) return false;
    return std::all_of(keyword.begin() + static_cast<std::ptrdiff_t>(root.size()), keyword.end(),
                       [](char c) { return c >= '0' && c <= '9'; });
}

std::string padded(std::string card) {
    card.resize(fitsCardSize, ' ');
    return card;
}

std::string checkedKeyword(std::string_view keyword) {
    const bool legal =
        !keyword.empty() && keyword.size() <= keywordSize && std::all_of(keyword.begin(), keyword.end(), [](char c) {
            return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
        });
    if (!legal)
        throw Error(fmt::format("FITS keyword '{}': 1 to 8 of the characters A-Z, 0-9, - and _ are allowed", keyword));
    return std::string(keyword);
}

/// FITS headers hold printable ASCII only.
std::string printableAscii(std::string_view text) {
    std::string result(text);
    for (char& c : result)
        if (c < ' ' || c > '~') c = '?';
    return result;
}

/// A card with a value that is not text: right-justified to column 30, as the fixed format has it.
std::string valueCard(std::string_view keyword, std::string_view value, std::string_view comment) {
    std::string card = fmt::format("{:<8}= {:>20}", checkedKeyword(keyword), value);
    if (!comment.empty()) card += " / " + printableAscii(comment);
    return padded(std::move(card));
}

} // namespace

void FitsHeader::addCard(std::string card) { cards_.push_back(padded(std::move(card))); }

bool FitsHeader::has(std::string_view keyword) const {
    return std::any_of(cards_.begin(), cards_.end(),
                       [&](const std::string& card) { return split(card).keyword == keyword; });
}

std::optional<std::string> FitsHeader::text(std::string_view keyword) const {
    if (keyword.empty()) return std::nullopt;
    for (std::size_t i = 0; i < cards_.size(); ++i) {
        const CardParts parts = split(cards_[i]);
        if (parts.keyword != keyword || !parts.hasValue) continue;
        std::optional<std::string> value = quotedText(parts.value);
        if (!value) return std::string(unquoted(parts.value));
        // Long text: a trailing & says that a CONTINUE card follows.
        for (std::size_t next = i + 1; next < cards_.size() && trimRight(*value).ends_with('&'); ++next) {
            const std::string_view card = cards_[next];
            if (!card.starts_with("CONTINUE  ")) break;
            const std::optional<std::string> more = quotedText(card.substr(keywordSize));
            if (!more) break;
            value->erase(value->find_last_of('&'));
            *value += *more;
        }
        return std::string(trimRight(*value));
    }
    return std::nullopt;
}

std::optional<double> FitsHeader::number(std::string_view keyword) const {
    const std::optional<std::string> value = text(keyword);
    return value ? parseNumber(*value) : std::nullopt;
}

std::optional<std::int64_t> FitsHeader::integer(std::string_view keyword) const {
    const std::optional<std::string> value = text(keyword);
    if (!value) return std::nullopt;
    std::string_view digits = trim(*value);
    if (digits.starts_with('+')) digits.remove_prefix(1);
    std::int64_t result = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), result);
    if (error == std::errc() && end == digits.data() + digits.size() && !digits.empty()) return result;
    // 4128. and 4.128E3 are integers too.
    const std::optional<double> real = parseNumber(*value);
    if (real && std::abs(*real) <= 9007199254740992.0 && *real == std::floor(*real))
        return static_cast<std::int64_t>(*real);
    return std::nullopt;
}

namespace {

void replaceOrAdd(std::vector<std::string>& cards, std::string_view keyword, std::string card) {
    const auto isOld = [&](const std::string& old) { return split(old).keyword == keyword; };
    const auto found = std::find_if(cards.begin(), cards.end(), isOld);
    if (found == cards.end()) {
        cards.push_back(std::move(card));
        return;
    }
    *found = std::move(card);
    // CONTINUE cards belong to the value that was replaced.
    const auto first = found + 1;
    cards.erase(first, std::find_if_not(first, cards.end(),
                                        [](const std::string& next) { return next.starts_with("CONTINUE"); }));
}

} // namespace

void FitsHeader::set(std::string_view keyword, std::string_view value, std::string_view comment) {
    constexpr std::size_t longest = fitsCardSize - keywordSize - 4; // "= " and two quotes
    const auto escape = [](std::string_view raw) {
        std::string escaped;
        for (const char c : raw) escaped.append(c == '\'' ? 2 : 1, c);
        return escaped;
    };
    const std::string plain = printableAscii(value);
    std::string text = escape(plain);
    for (std::size_t cut = 1; text.size() > longest; ++cut) text = "..." + escape(std::string_view(plain).substr(cut));
    std::string card = fmt::format("{:<8}= '{:<8}'", checkedKeyword(keyword), text);
    if (!comment.empty() && card.size() + 3 < fitsCardSize)
        card += fmt::format("{:>{}} / {}", "", card.size() < 30 ? 30 - card.size() : 0, printableAscii(comment));
    replaceOrAdd(cards_, keyword, padded(std::move(card)));
}

void FitsHeader::set(std::string_view keyword, const char* value, std::string_view comment) {
    set(keyword, std::string_view(value), comment);
}

void FitsHeader::set(std::string_view keyword, double value, std::string_view comment) {
    if (!std::isfinite(value))
        throw Error(fmt::format("FITS keyword {} = {}: a header holds finite numbers only", keyword, value));
    // Shortest form that reads back the same; a point or exponent tells readers that it is not an integer.
    std::string number = fmt::format("{}", value);
    for (char& c : number)
        if (c == 'e') c = 'E';
    if (number.find_first_of(".E") == std::string::npos) number += ".0";
    replaceOrAdd(cards_, keyword, valueCard(keyword, number, comment));
}

void FitsHeader::set(std::string_view keyword, std::int64_t value, std::string_view comment) {
    replaceOrAdd(cards_, keyword, valueCard(keyword, fmt::format("{}", value), comment));
}

void FitsHeader::set(std::string_view keyword, int value, std::string_view comment) {
    set(keyword, static_cast<std::int64_t>(value), comment);
}

void FitsHeader::set(std::string_view keyword, bool value, std::string_view comment) {
    replaceOrAdd(cards_, keyword, valueCard(keyword, value ? "T" : "F", comment));
}

void FitsHeader::remove(std::string_view keyword) {
    bool removing = false;
    std::erase_if(cards_, [&](const std::string& card) {
        if (removing && card.starts_with("CONTINUE")) return true;
        removing = split(card).keyword == keyword;
        return removing;
    });
}

bool FitsHeader::isStructural(std::string_view card) {
    static constexpr std::array<std::string_view, 48> whole = {
        "SIMPLE",   "XTENSION", "BITPIX",   "NAXIS",    "EXTEND",   "PCOUNT",   "GCOUNT",   "GROUPS",
        "BLOCKED",  "END",      "TFIELDS",  "THEAP",    "BSCALE",   "BZERO",    "BLANK",    "DATAMIN",
        "DATAMAX",  "CHECKSUM", "DATASUM",  "INHERIT",  "ZIMAGE",   "ZTABLE",   "ZCMPTYPE", "ZBITPIX",
        "ZNAXIS",   "ZQUANTIZ", "ZDITHER0", "ZSIMPLE",  "ZTENSION", "ZEXTEND",  "ZBLOCKED", "ZPCOUNT",
        "ZGCOUNT",  "ZHECKSUM", "ZDATASUM", "ZMASKCMP", "ZBLANK",   "ZSCALE",   "ZZERO",    "ZTHEAP",
        "ZTILELEN", "FZALGOR",  "FZTILE",   "FZQVALUE", "FZQMETHD", "FZDTHRSD", "FZINT2F",  "FZALGN"};
    static constexpr std::array<std::string_view, 15> indexed = {"NAXIS",  "TTYPE", "TFORM", "TUNIT", "TSCAL",
                                                                 "TZERO",  "TNULL", "TDISP", "TDIM",  "TBCOL",
                                                                 "ZNAXIS", "ZTILE", "ZNAME", "ZVAL",  "ZFORM"};
    const std::string_view keyword = trimRight(card.substr(0, std::min(card.size(), keywordSize)));
    return std::find(whole.begin(), whole.end(), keyword) != whole.end() ||
           std::any_of(indexed.begin(), indexed.end(), [&](std::string_view root) { return isIndexed(keyword, root); });
}

} // namespace patchlight
