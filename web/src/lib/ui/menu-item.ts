/** One line of a menu. */
import type { IconName } from './icons';

export interface MenuItem {
  label: string;
  run: () => void;
  icon?: IconName;
  danger?: boolean;
  /** Draws a line above. */
  apart?: boolean;
  /** For choices: whether this one is taken. */
  checked?: boolean;
  testid?: string;
}
