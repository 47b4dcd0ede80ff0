-- library_read: which library this is, so that a caller can check it before anything else.
--
-- KEYS[1] P            shard prefix, fleet:{0}
-- Reply   library <abi> <revision>
-- Cost    O(1)
define('library_read', function()
  return reply('library', ABI, REVISION)
end, { 'no-writes', 'allow-oom', 'allow-stale' }, 0)
