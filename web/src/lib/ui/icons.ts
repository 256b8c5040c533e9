/** The icons, as strokes on a 16 × 16 grid. Drawn for this app. */
export const icons = {
  add: 'M8 3v10M3 8h10',
  alert: 'M8 2 1.8 13h12.4L8 2ZM8 6.5v3M8 11.3v.2',
  back: 'M9.5 3.5 5 8l4.5 4.5',
  below: 'M2.5 2.5h11v11h-11zM2.5 8h11',
  beside: 'M2.5 2.5h11v11h-11zM8 2.5v11',
  box: 'M8 1.8 13.5 5v6L8 14.2 2.5 11V5L8 1.8ZM2.7 5 8 8l5.3-3M8 8v6',
  broadcast:
    'M8 8h.1M5.5 10.5a3.5 3.5 0 0 1 0-5M10.5 5.5a3.5 3.5 0 0 1 0 5M3.4 12.6a6.5 6.5 0 0 1 0-9.2M12.6 3.4a6.5 6.5 0 0 1 0 9.2',
  check: 'M3 8.5 6.5 12 13 4.5',
  chevron: 'M4.5 6.5 8 10l3.5-3.5',
  close: 'M4 4l8 8M12 4l-8 8',
  copy: 'M6 6h7.5v7.5H6zM3.5 10H2.5V2.5H10v1',
  devices: 'M2 3.5h9v6H2zM5 12.5h3M11 7h3v6.5h-3z',
  download: 'M8 2.5v8M4.5 7.5 8 11l3.5-3.5M2.5 13.5h11',
  edit: 'M10.5 3 13 5.5 5.5 13H3v-2.5L10.5 3Z',
  eye: 'M1.5 8S4 3.8 8 3.8 14.5 8 14.5 8 12 12.2 8 12.2 1.5 8 1.5 8ZM8 10a2 2 0 1 0 0-4 2 2 0 0 0 0 4Z',
  file: 'M4 1.8h5l3.5 3.5v8.9H4zM9 1.8v3.5h3.5',
  filter: 'M2.5 4h11M4.5 8h7M6.5 12h3',
  folder: 'M1.8 3.5h4.4l1.5 1.8h6.5v7.7H1.8zM1.8 5.3h6',
  key: 'M9.8 9.2a3.2 3.2 0 1 0-3-3L2.5 10.5V13.5H5.5V12H7v-1.5h1.5l1.3-1.3ZM10.8 5.2h.1',
  keyboard: 'M1.5 4h13v8.5h-13zM4 6.7h.1M6.6 6.7h.1M9.3 6.7h.1M12 6.7h.1M5 9.8h6',
  link: 'M6.8 9.2 9.2 6.8M7.5 5 9.2 3.3a2.5 2.5 0 0 1 3.5 3.5L11 8.5M8.5 11l-1.7 1.7a2.5 2.5 0 0 1-3.5-3.5L5 7.5',
  monitor: 'M2 3h12v8H2zM5.5 13.5h5',
  moon: 'M13 9.6A5.5 5.5 0 0 1 6.4 3 5.5 5.5 0 1 0 13 9.6Z',
  more: 'M3.5 8h.1M8 8h.1M12.5 8h.1',
  offline:
    'M2 2l12 12M4.6 9.4a5 5 0 0 1 2-1.2M2 6.8A9 9 0 0 1 4.3 5.3M7 4.1a9 9 0 0 1 7 2.7M11.4 9.4l-.5-.5M8 12.3h.1',
  pause: 'M5.5 3.5v9M10.5 3.5v9',
  play: 'M5 3.5v9l7-4.5-7-4.5Z',
  refresh: 'M13 8a5 5 0 1 1-1.5-3.6M13 2.5v3h-3',
  pulse: 'M1.5 8.5h3l2-5 3 9 2-4h3',
  search: 'M7 12A5 5 0 1 0 7 2a5 5 0 0 0 0 10ZM10.7 10.7 14 14',
  sessions: 'M2 4.5h9V11H2zM5 4.5V2.5h9V9h-3',
  settings:
    'M2.5 4.5h6M12.5 4.5h1M2.5 11.5h1M7.5 11.5h6M10.5 6.5a2 2 0 1 0 0-4 2 2 0 0 0 0 4ZM5.5 13.5a2 2 0 1 0 0-4 2 2 0 0 0 0 4Z',
  shield: 'M8 2l5 2v4c0 3-2.2 5-5 6-2.8-1-5-3-5-6V4l5-2ZM5.8 8l1.6 1.6 2.8-3',
  signout: 'M6.5 2.5h-4v11h4M10 5l3 3-3 3M13 8H6',
  snippet:
    'M5.5 3C4 3 4.5 5 4.5 6S3.5 8 2.5 8c1 0 2 1 2 2s-.5 3 1 3M10.5 3c1.5 0 1 2 1 3s1 2 2 2c-1 0-2 1-2 2s.5 3-1 3',
  sun: 'M8 10.8a2.8 2.8 0 1 0 0-5.6 2.8 2.8 0 0 0 0 5.6ZM8 1.5v1M8 13.5v1M1.5 8h1M13.5 8h1M3.4 3.4l.7.7M11.9 11.9l.7.7M12.6 3.4l-.7.7M4.1 11.9l-.7.7',
  tab: 'M1.5 5.5h13v8h-13zM1.5 5.5v-3h5l1.5 3',
  tag: 'M2.5 2.5H8l5.5 5.5L8 13.5 2.5 8V2.5ZM5.4 5.4h.1',
  terminal: 'M3 4.5 6.5 8 3 11.5M8 12h5',
  trash: 'M2.5 4h11M6 4V2.5h4V4M4 4l.6 9.5h6.8L12 4M6.7 6.7v4M9.3 6.7v4',
  up: 'M8 13V3.5M4 7.5l4-4 4 4',
  upload: 'M8 11V2.5M4.5 6 8 2.5 11.5 6M2.5 13.5h11',
  window: 'M8.5 3h-6v10.5H13v-6M9.5 2.5h4v4M13.5 2.5 7.5 8.5',
  user: 'M8 8a2.7 2.7 0 1 0 0-5.4A2.7 2.7 0 0 0 8 8ZM2.8 13.7c.6-2.4 2.6-3.7 5.2-3.7s4.6 1.3 5.2 3.7',
} as const;

export type IconName = keyof typeof icons;

/** Systems by shape, not by trademark: an egg with a beak line, a four-pane window, a looped square, a plain prompt. */
export const systems = {
  linux:
    'M8 1.8c-1.9 0-2.6 1.5-2.6 3.2 0 2-1.9 3.3-1.9 6.1 0 1.9 1.8 3.1 4.5 3.1s4.5-1.2 4.5-3.1c0-2.8-1.9-4.1-1.9-6.1 0-1.7-.7-3.2-2.6-3.2ZM6.8 4.7h.1M9.2 4.7h.1M7 6.3l1 .7 1-.7M5.7 14C5.6 10.6 6.3 9 8 9s2.4 1.6 2.3 5',
  macos:
    'M6 6h4v4H6zM6 6V4.4A1.9 1.9 0 1 0 4.1 6H6ZM10 6h1.9A1.9 1.9 0 1 0 10 4.4V6ZM10 10v1.6A1.9 1.9 0 1 0 11.9 10H10ZM6 10H4.1A1.9 1.9 0 1 0 6 11.6V10Z',
  windows:
    'M2.5 3.8 7.2 3.1v4.5H2.5zM8.8 2.9l4.7-.7v5.4H8.8zM2.5 8.8h4.7v4.5l-4.7-.7zM8.8 8.8h4.7v5.4l-4.7-.7z',
  other: 'M2 3h12v10H2zM4.5 6 6.5 8l-2 2M8 10h3',
} as const;

/** The shape and the written name of an operating system as agents report it. */
export function systemOf(os: string): { shape: keyof typeof systems; label: string } {
  switch (os.toLowerCase()) {
    case 'linux':
      return { shape: 'linux', label: 'Linux' };
    case 'macos':
    case 'darwin':
      return { shape: 'macos', label: 'macOS' };
    case 'windows':
      return { shape: 'windows', label: 'Windows' };
    default:
      return { shape: 'other', label: os || 'Unknown' };
  }
}
