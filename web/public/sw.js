// Shows what a page asks for where pages may not do it themselves, which is on phones, and brings that page to the front. It answers no request.
addEventListener('notificationclick', (event) => {
  const { tag, data } = event.notification;
  event.notification.close();
  event.waitUntil(bring(tag, data));
});

async function bring(tag, address) {
  const pages = await clients.matchAll({ type: 'window', includeUncontrolled: true });
  const page = pages.find(({ url }) => url === address) ?? pages[0];
  if (!page) return clients.openWindow('/');
  page.postMessage({ clicked: tag });
  return page.focus();
}
