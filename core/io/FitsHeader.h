#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace patchlight {

/// A FITS header as an ordered list of cards (80 characters each, without END).
///
/// Cards that describe the data's shape (SIMPLE, XTENSION, BITPIX, NAXIS..., TFORMn, ZIMAGE, CHECKSUM ...) are kept as read;
/// isStructural() tells them apart, so that a header can be carried over to another HDU.
class FitsHeader {
public:
    void addCard(std::string card);
    [[nodiscard]] const std::vector<std::string>& cards() const { return cards_; }

    [[nodiscard]] bool has(std::string_view keyword) const;
    /// Value of a keyword as a number (a quoted number counts: specex writes PSFVER as '2'); nothing where it is absent or not one.
    [[nodiscard]] std::optional<double> number(std::string_view keyword) const;
    [[nodiscard]] std::optional<std::int64_t> integer(std::string_view keyword) const;
    /// Value of a keyword as text, trailing blanks removed; a number comes back as it is written.
    [[nodiscard]] std::optional<std::string> text(std::string_view keyword) const;

    /// Set or replace a keyword (at most 8 characters, upper case). Long text is cut to what a card holds, with "..." in front.
    void set(std::string_view keyword, std::string_view value, std::string_view comment = {});
    void set(std::string_view keyword, const char* value, std::string_view comment = {});
    void set(std::string_view keyword, double value, std::string_view comment = {});
    void set(std::string_view keyword, std::int64_t value, std::string_view comment = {});
    void set(std::string_view keyword, int value, std::string_view comment = {});
    void set(std::string_view keyword, bool value, std::string_view comment = {});
    void remove(std::string_view keyword);

    /// True for keywords that belong to the HDU's data layout and must not be copied to another HDU.
    [[nodiscard]] static bool isStructural(std::string_view card);

private:
    std::vector<std::string> cards_;
};

} // namespace patchlight
