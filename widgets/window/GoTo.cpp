#include "widgets/window/GoTo.h"

#include "core/image/CcdImage.h"
#include "core/psf/Psf.h"
#include "widgets/control/Document.h"

#include <QDialogButtonBox>
#include <QLabel>
#include <QLineEdit>
#include <QPushButton>
#include <QRegularExpression>
#include <QVBoxLayout>

#include <cmath>

namespace patchlight::widgets {

Cursor parsePlace(const QString& text, const Document& document, QString& problem) {
    problem.clear();
    static const QRegularExpression number(QStringLiteral(R"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"));
    QList<double> numbers;
    QString words = text.toLower();
    for (auto it = number.globalMatch(text); it.hasNext();) numbers << it.next().captured().toDouble();
    words.remove(number);
    words.remove(QRegularExpression(QStringLiteral("[\\s,;=:()]")));
    const bool asPixel =
        words == QStringLiteral("xy") || words == QStringLiteral("pixel") || words == QStringLiteral("xypixel");
    const bool asBin = words.startsWith(QLatin1Char('f')) || words.startsWith(QLatin1Char('s'));
    if (numbers.size() != 2 || (!words.isEmpty() && !asPixel && !asBin)) {
        problem = GoToDialog::tr("two numbers: \"fiber, wavelength\" such as \"152, 6500\", or \"x 2000 y 1500\"");
        return {};
    }
    const CcdImage* image = document.image().get();
    const Psf* psf = document.psf().get();
    const double scale = document.plan() ? document.plan()->grid.scale : 1.0;
    const auto isWavelength = [&](double w) {
        return psf && w >= psf->wavemin() * scale - 5 && w <= psf->wavemax() * scale + 5;
    };
    const bool isFiber = psf && numbers[0] == std::floor(numbers[0]) && numbers[0] >= 0 && numbers[0] < psf->nspec;
    if (asBin || (!asPixel && isFiber && isWavelength(numbers[1]))) {
        if (!psf) {
            problem = GoToDialog::tr("a fiber needs a PSF; none is open");
            return {};
        }
        if (!isFiber) {
            problem = GoToDialog::tr("fibers are 0 to %1, not %2").arg(psf->nspec - 1).arg(numbers[0]);
            return {};
        }
        if (!isWavelength(numbers[1])) {
            problem = GoToDialog::tr("wavelengths are %1 to %2 \u00c5, not %3")
                          .arg(psf->wavemin() * scale, 0, 'f', 1)
                          .arg(psf->wavemax() * scale, 0, 'f', 1)
                          .arg(numbers[1]);
            return {};
        }
        return document.cursorAtBin(static_cast<int>(numbers[0]), numbers[1]);
    }
    if (!image) {
        problem = GoToDialog::tr("no CCD image is open");
        return {};
    }
    if (numbers[0] < -0.5 || numbers[1] < -0.5 || numbers[0] > image->nx - 0.5 || numbers[1] > image->ny - 0.5) {
        problem =
            psf ? GoToDialog::tr("neither a fiber (0 to %1) and a wavelength (%2 to %3 \u00c5), nor a pixel of %4 x %5")
                      .arg(psf->nspec - 1)
                      .arg(psf->wavemin() * scale, 0, 'f', 0)
                      .arg(psf->wavemax() * scale, 0, 'f', 0)
                      .arg(image->nx)
                      .arg(image->ny)
                : GoToDialog::tr("the CCD has %1 x %2 pixels, counted from 0").arg(image->nx).arg(image->ny);
        return {};
    }
    return document.cursorAtPixel(numbers[0], numbers[1]);
}

QString describePlace(const Cursor& cursor) {
    QStringList parts;
    if (cursor.hasBin())
        parts << GoToDialog::tr("fiber %1, %2 \u00c5").arg(cursor.spectrum).arg(cursor.wavelength, 0, 'f', 2);
    if (cursor.hasPixel()) parts << GoToDialog::tr("x %1, y %2").arg(cursor.x, 0, 'f', 1).arg(cursor.y, 0, 'f', 1);
    return parts.join(QStringLiteral("  =  "));
}

GoToDialog::GoToDialog(const Document& document, QWidget* parent)
    : QDialog(parent), document_(document), edit_(new QLineEdit(this)), answer_(new QLabel(this)) {
    setWindowTitle(tr("Go to"));
    setObjectName(QStringLiteral("GoTo"));
    edit_->setPlaceholderText(tr("fiber, wavelength   or   x, y"));
    edit_->setAccessibleName(tr("Place"));
    answer_->setWordWrap(true);
    answer_->setMinimumHeight(2 * answer_->sizeHint().height());
    auto* buttons = new QDialogButtonBox(QDialogButtonBox::Ok | QDialogButtonBox::Cancel, this);
    go_ = buttons->button(QDialogButtonBox::Ok);
    go_->setText(tr("Go"));
    connect(buttons, &QDialogButtonBox::accepted, this, &QDialog::accept);
    connect(buttons, &QDialogButtonBox::rejected, this, &QDialog::reject);
    auto* layout = new QVBoxLayout(this);
    layout->addWidget(new QLabel(tr("Zero-based fiber and wavelength in \u00c5, or zero-based pixel:"), this));
    layout->addWidget(edit_);
    layout->addWidget(answer_);
    layout->addWidget(buttons);
    resize(460, sizeHint().height());
    connect(edit_, &QLineEdit::textChanged, this, &GoToDialog::changed);
    if (document.cursor().hasBin())
        edit_->setText(
            QStringLiteral("%1, %2").arg(document.cursor().spectrum).arg(document.cursor().wavelength, 0, 'f', 2));
    edit_->selectAll();
    changed(edit_->text());
}

void GoToDialog::changed(const QString& text) {
    QString problem;
    place_ = parsePlace(text, document_, problem);
    go_->setEnabled(problem.isEmpty());
    answer_->setText(problem.isEmpty() ? describePlace(place_) : text.trimmed().isEmpty() ? QString() : problem);
}

std::optional<ValueRange> parseCuts(const QString& text) {
    static const QRegularExpression between(QStringLiteral("\\s*(?:,|;|\\bto\\b|\\s)\\s*"));
    const QStringList parts = text.trimmed().split(between, Qt::SkipEmptyParts);
    if (parts.size() != 2) return {};
    bool okLow = false;
    bool okHigh = false;
    const ValueRange range{parts[0].toDouble(&okLow), parts[1].toDouble(&okHigh)};
    if (!okLow || !okHigh || !std::isfinite(range.low) || !std::isfinite(range.high) || !(range.high > range.low))
        return {};
    return range;
}

} // namespace patchlight::widgets
