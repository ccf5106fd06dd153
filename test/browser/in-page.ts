/**
 * Expressions that the browser evaluates in a page. They are texts, because the compiler of this project knows no
 * documents and no elements.
 */

/** The names of the elements that are wider than the window, if the page scrolls sideways. */
export const OVERFLOW = `(() => {
  const { scrollWidth, clientWidth } = document.documentElement;
  if (scrollWidth <= clientWidth) return [];
  return [...document.querySelectorAll('body *')]
    .filter((element) => element.getBoundingClientRect().right > clientWidth)
    .map((element) => 'too wide: ' + element.tagName + ' ' + element.className);
})()`;

/** The texts whose contrast is below 4.5 : 1. @see WCAG 2.2, success criterion 1.4.3 */
export const CONTRAST_FAULTS = `(() => {
  const parse = (color) => {
    const [red, green, blue, alpha = 1] = color.match(/[\\d.]+/g).map(Number);
    return { red, green, blue, alpha };
  };
  const channel = (value) => (value <= 10.31475 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4);
  const luminance = ({ red, green, blue }) => 0.2126 * channel(red) + 0.7152 * channel(green) + 0.0722 * channel(blue);
  const groundOf = (element) => {
    const ground = parse(getComputedStyle(element).backgroundColor);
    if (ground.alpha === 1) return ground;
    if (ground.alpha > 0 || !element.parentElement) throw new Error('The background of a text is not known.');
    return groundOf(element.parentElement);
  };
  const hasText = (element) =>
    element.tagName === 'INPUT' ||
    [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim() !== '');
  return [...document.querySelectorAll('body *')]
    .filter((element) => element.checkVisibility() && hasText(element))
    .map((element) => {
      const [one, other] = [parse(getComputedStyle(element).color), groundOf(element)].map(luminance);
      const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
      return { ratio, text: element.textContent.trim().slice(0, 40) };
    })
    .filter(({ ratio }) => ratio < 4.5)
    .map(({ ratio, text }) => 'contrast ' + ratio.toFixed(2) + ': ' + text);
})()`;

/** Whether anything on the page moves or fades. */
export const HAS_MOTION = `
  [...document.querySelectorAll('*')].some((element) => {
    const { transitionDuration, animationName, scrollBehavior } = getComputedStyle(element);
    return !/^0s(, 0s)*$/.test(transitionDuration) || animationName !== 'none' || scrollBehavior === 'smooth';
  })`;

/** The accessible name of the element with the focus, as far as the page gives names, and whether it has an outline. */
export const WHAT_HAS_FOCUS = `(() => {
  const focused = document.activeElement;
  const name = focused.getAttribute('aria-label') ?? focused.labels?.[0]?.textContent ?? focused.textContent;
  const { outlineStyle, outlineWidth } = getComputedStyle(focused);
  return { name: name.trim(), isVisible: outlineStyle !== 'none' && parseFloat(outlineWidth) >= 2 };
})()`;
