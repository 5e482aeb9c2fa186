#include "widgets/window/FileArgument.h"

#include <QFileInfo>
#include <QRegularExpression>

#include <algorithm>

namespace patchlight::widgets {

FileArgument parseFileArgument(const QString& text) {
    FileArgument argument{text, {}, {}};
    if (QFileInfo::exists(text)) return argument;
    static const QRegularExpression bracket(QStringLiteral(R"(^(.*)\[([^\[\]]*)\]$)"));
    static const QRegularExpression section(QStringLiteral(R"(^(\d+):(\d+),(\d+):(\d+)$)"));
    QString rest = text;
    for (auto match = bracket.match(rest); match.hasMatch(); match = bracket.match(rest)) {
        rest = match.captured(1);
        const QString inside = match.captured(2).remove(QLatin1Char(' '));
        if (const auto numbers = section.match(inside); numbers.hasMatch()) {
            const int x1 = numbers.captured(1).toInt() - 1;
            const int x2 = numbers.captured(2).toInt() - 1;
            const int y1 = numbers.captured(3).toInt() - 1;
            const int y2 = numbers.captured(4).toInt() - 1;
            argument.section =
                QRect(QPoint(std::min(x1, x2), std::min(y1, y2)), QPoint(std::max(x1, x2), std::max(y1, y2)));
        } else {
            argument.hdu = inside;
        }
    }
    argument.path = rest;
    return argument;
}

} // namespace patchlight::widgets
